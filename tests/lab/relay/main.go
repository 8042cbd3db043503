// A plain TCP relay: the core of load balancers and port publishers. Go moves the bytes with splice(2).
//
// With `hold CONNECTION RECORDS` the relay misbehaves: of that connection, counted from 1, it forwards RECORDS TLS
// records of application data from the client, and holds back the rest for ever.
//
// With `idle SECONDS` it behaves as a load balancer: it closes a direction in an orderly way once that direction has been
// silent for so long.
//
// With `most BYTES` it drops data: it forwards BYTES bytes of the answers to each client, and drops the rest.
package main

import (
	"encoding/binary"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"time"
)

// Connection whose client data is limited, and the number of records to forward.
type hold struct{ connection, records int }

func main() {
	var bad hold
	forward, back := copyAll, copyAll
	switch {
	case len(os.Args) == 3:
	case len(os.Args) == 6 && os.Args[3] == "hold":
		bad = hold{number(os.Args[4]), number(os.Args[5])}
	case len(os.Args) == 5 && os.Args[3] == "most":
		most := number(os.Args[4])
		back = func(to, from *net.TCPConn) { copyMost(to, from, int64(most)) }
	case len(os.Args) == 5 && os.Args[3] == "idle":
		idle := time.Duration(number(os.Args[4])) * time.Second
		forward = func(to, from *net.TCPConn) { copyUntilIdle(to, from, idle) }
		back = forward
	default:
		log.Fatal("usage: relay LISTEN TARGET [hold CONNECTION RECORDS | most BYTES | idle SECONDS]")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for count := 1; ; count++ {
		inbound, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		there := forward
		if count == bad.connection {
			there = func(to, from *net.TCPConn) { copyRecords(to, from, bad.records) }
		}
		go relay(inbound.(*net.TCPConn), os.Args[2], there, back)
	}
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return number
}

// `there` copies from the client to the target, `back` in the other direction.
func relay(inbound *net.TCPConn, target string, there, back func(to, from *net.TCPConn)) {
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
		back(inbound, outbound)
		close(done)
	}()
	there(outbound, inbound)
	<-done
}

// TLS records (RFC 8446, 5.1): a type, a version, a length.
func copyRecords(to, from *net.TCPConn, left int) {
	const applicationData = 23
	for left > 0 {
		var head [5]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		record := make([]byte, len(head)+int(binary.BigEndian.Uint16(head[3:])))
		copy(record, head[:])
		if _, err := io.ReadFull(from, record[len(head):]); err != nil {
			return
		}
		if _, err := to.Write(record); err != nil {
			return
		}
		if head[0] == applicationData {
			left--
		}
	}
	io.Copy(io.Discard, from)
	to.CloseWrite()
}

func copyMost(to, from *net.TCPConn, most int64) {
	io.CopyN(to, from, most)
	io.Copy(io.Discard, from)
	to.CloseWrite()
}

func copyUntilIdle(to, from *net.TCPConn, idle time.Duration) {
	buffer := make([]byte, 32<<10)
	for {
		from.SetReadDeadline(time.Now().Add(idle))
		count, err := from.Read(buffer)
		if _, failed := to.Write(buffer[:count]); failed != nil || err != nil {
			break
		}
	}
	to.CloseWrite()
}

func copyAll(to, from *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}
