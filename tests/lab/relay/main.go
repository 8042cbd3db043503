// A plain TCP relay: what load balancers and port publishers are at heart. Go moves the bytes with splice(2).
//
// With MOST it is a bad one: of what comes back for a client it passes on so many bytes, and drops the rest.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) < 3 || len(os.Args) > 4 {
		log.Fatal("usage: relay LISTEN TARGET [MOST]")
	}
	most := int64(-1)
	if len(os.Args) == 4 {
		parsed, err := strconv.ParseInt(os.Args[3], 10, 64)
		if err != nil {
			log.Fatal(err)
		}
		most = parsed
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
		go relay(inbound.(*net.TCPConn), os.Args[2], most)
	}
}

func relay(inbound *net.TCPConn, target string, most int64) {
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
		if most >= 0 {
			io.CopyN(inbound, outbound, most)
			io.Copy(io.Discard, outbound)
		}
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
