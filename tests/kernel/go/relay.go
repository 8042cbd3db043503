// A relay as Go programs write them, for tests of the probes.
//
//	relay MODE BACKEND
//
// MODE is "copy" (read and write, as a proxy with TLS does) or "splice" (io.Copy between plain connections). Prints the
// address on which it listens.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// Without ReadFrom and WriteTo, so that io.CopyBuffer has to read and write.
type plain struct{ net.Conn }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func passOn(mode string, from, to net.Conn, done *sync.WaitGroup) {
	defer done.Done()
	if mode == "copy" {
		io.CopyBuffer(struct{ io.Writer }{plain{to}}, struct{ io.Reader }{plain{from}}, make([]byte, 4096))
	} else {
		io.Copy(to, from)
	}
	to.(*net.TCPConn).CloseWrite()
}

func serve(mode, backend string, inbound net.Conn) {
	defer inbound.Close()
	hello := make([]byte, 8)
	if mode == "copy" {
		if _, err := io.ReadFull(inbound, hello); err != nil {
			return
		}
	}
	outbound, err := net.Dial("tcp", backend)
	check(err)
	defer outbound.Close()
	if mode == "copy" {
		_, err = outbound.Write(hello)
		check(err)
	}
	var done sync.WaitGroup
	done.Add(2)
	go passOn(mode, inbound, outbound, &done)
	go passOn(mode, outbound, inbound, &done)
	done.Wait()
}

func main() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr())
	for {
		inbound, err := listener.Accept()
		check(err)
		go serve(os.Args[1], os.Args[2], inbound)
	}
}
