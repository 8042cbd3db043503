// A relay as typical in Go, for tests of the probes.
//
//	relay MODE BACKEND
//
// MODE is "copy" (read and write, as a proxy with TLS does), "splice" (io.Copy between plain connections) or "translate"
// (one goroutine reads, another one writes the messages). Prints the address on which it listens. In "translate" it also
// prints a line for each connection: the client's address and the id of the serving goroutine, as Go reports it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
)

// Hides ReadFrom and WriteTo, so that io.CopyBuffer has to read and write.
type plain struct{ net.Conn }

func passOn(mode string, from, to net.Conn, done *sync.WaitGroup) {
	defer done.Done()
	if mode == "copy" {
		io.CopyBuffer(struct{ io.Writer }{plain{to}}, struct{ io.Reader }{plain{from}}, make([]byte, 4096))
	} else {
		io.Copy(to, from)
	}
	to.(*net.TCPConn).CloseWrite()
}

// Reads, and hands the messages to another goroutine for writing.
func take(from net.Conn, messages chan<- []byte) {
	defer close(messages)
	for {
		message := make([]byte, 4096)
		have, err := from.Read(message)
		if err != nil {
			return
		}
		messages <- message[:have]
	}
}

func give(to net.Conn, messages <-chan []byte, done *sync.WaitGroup) {
	defer done.Done()
	for message := range messages {
		if _, err := to.Write(message); err != nil {
			return
		}
	}
	to.(*net.TCPConn).CloseWrite()
}

func translate(from, to net.Conn, done *sync.WaitGroup) {
	messages := make(chan []byte, 1)
	go take(from, messages)
	go give(to, messages, done)
}

// "goroutine 18 [running]:"
func ownID() string {
	stack := make([]byte, 64)
	return string(bytes.Fields(stack[:runtime.Stack(stack, false)])[1])
}

func serve(mode, backend string, inbound net.Conn) {
	defer inbound.Close()
	hello := make([]byte, 8)
	if mode != "splice" {
		if _, err := io.ReadFull(inbound, hello); err != nil {
			return
		}
	}
	outbound, err := net.Dial("tcp", backend)
	check(err)
	defer outbound.Close()
	if mode != "splice" {
		_, err = outbound.Write(hello)
		check(err)
	}
	var done sync.WaitGroup
	done.Add(2)
	if mode == "translate" {
		translate(inbound, outbound, &done)
		translate(outbound, inbound, &done)
		fmt.Println(inbound.RemoteAddr(), ownID())
	} else {
		go passOn(mode, inbound, outbound, &done)
		go passOn(mode, outbound, inbound, &done)
	}
	done.Wait()
}

func main() {
	listener := listen()
	// Accept in a goroutine, as net/http does: the serving goroutines then have an ordinary creator.
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		for {
			inbound, err := listener.Accept()
			check(err)
			go serve(os.Args[1], os.Args[2], inbound)
		}
	}()
	done.Wait()
}
