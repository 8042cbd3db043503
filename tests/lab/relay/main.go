// A plain TCP relay: what load balancers and port publishers are at heart. Go moves the bytes with splice(2).
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: relay LISTEN TARGET")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		inbound, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(inbound.(*net.TCPConn), os.Args[2])
	}
}

func relay(inbound *net.TCPConn, target string) {
	defer inbound.Close()
	conn, err := net.Dial("tcp", target)
	if err != nil {
		log.Print(err)
		return
	}
	outbound := conn.(*net.TCPConn)
	defer outbound.Close()
	done := make(chan struct{})
	go func() {
		copyAll(inbound, outbound)
		close(done)
	}()
	copyAll(outbound, inbound)
	<-done
}

func copyAll(to, from *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}
