// A load of exec sessions from one process: a thousand kubectls would not fit on a machine.
//
// The program speaks the WebSocket protocol of exec itself: one request, then frames whose first byte is the stream.
// The first line of stdin has the connection parameters. Each further line up to an empty one asks for a session. When
// a session's process reports that it got all its bytes, the program prints the session's token and the local address
// of its connection. Afterwards each line sends a byte to all processes. The end of stdin closes every connection.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

type server struct {
	Address       string
	CA, Cert, Key []byte // PEM
	AtOnce        int    // number of sessions opened at the same time
}

type session struct {
	Token string
	Bytes int
	Path  string // of the URL, with the query
}

const (
	// Streams of v4.channel.k8s.io.
	stdin  = 0
	stdout = 1
	// Size of an API server's copy buffer.
	chunk = 16 * 1024
	// Longest time for opening a session.
	patience = 5 * time.Minute
)

func main() {
	log.SetFlags(0)
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	var to server
	input.Scan()
	if err := json.Unmarshal(input.Bytes(), &to); err != nil {
		log.Fatal(err)
	}
	var sessions []session
	for input.Scan() && input.Text() != "" {
		var one session
		if err := json.Unmarshal(input.Bytes(), &one); err != nil {
			log.Fatal(err)
		}
		sessions = append(sessions, one)
	}
	config, err := to.config()
	if err != nil {
		log.Fatal(err)
	}

	places := make(chan struct{}, to.AtOnce)
	opened := make(chan net.Conn)
	for _, one := range sessions {
		go func(one session) {
			places <- struct{}{}
			conn, err := open(to.Address, config, one)
			if err != nil {
				log.Fatalf("%s: %v", one.Token, err)
			}
			<-places
			opened <- conn
		}(one)
	}
	var conns []net.Conn
	for range sessions {
		conns = append(conns, <-opened)
	}
	for input.Scan() {
		for _, conn := range conns {
			if err := write(conn, []byte{stdin, '\n'}); err != nil {
				log.Fatal(err)
			}
		}
	}
	for _, conn := range conns {
		conn.Close()
	}
}

func (to server) config() (*tls.Config, error) {
	cert, err := tls.X509KeyPair(to.Cert, to.Key)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(to.CA)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: authorities}, nil
}

// Opens a session, sends its bytes, and waits until its process reports that it has them.
func open(address string, config *tls.Config, one session) (net.Conn, error) {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Origin: http://%s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n", one.Path, address, address)
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 400))
		return nil, fmt.Errorf("%s: %s", answer.Status, text)
	}
	result := make(chan error, 1)
	go listen(conn, reader, result)
	buffer := make([]byte, 1+chunk)
	buffer[0] = stdin
	for left := one.Bytes; left > 0; {
		size := chunk
		if left < size {
			size = left
		}
		if err := write(conn, buffer[:1+size]); err != nil {
			return nil, err
		}
		left -= size
	}
	if err := <-result; err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	fmt.Println(one.Token, conn.LocalAddr())
	return conn, nil
}

// Reports that the process is done, then reads on so that nothing backs up.
func listen(conn net.Conn, reader *bufio.Reader, result chan<- error) {
	var text strings.Builder
	isDone := false
	for {
		payload, err := read(reader)
		if err != nil {
			if !isDone {
				result <- fmt.Errorf("%w, after %q", err, text.String())
			}
			return
		}
		if isDone || len(payload) < 2 {
			continue
		}
		text.Write(payload[1:])
		if payload[0] == stdout && strings.Contains(text.String(), "done\n") {
			isDone = true
			result <- nil
		}
	}
}

// A frame as a client must send it: masked, here with zeros, which change nothing.
func write(conn net.Conn, payload []byte) error {
	const final, binaryFrame, masked = 0x80, 2, 0x80
	frame := []byte{final | binaryFrame}
	if len(payload) < 126 {
		frame = append(frame, masked|byte(len(payload)))
	} else {
		frame = append(frame, masked|126)
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	}
	frame = append(frame, 0, 0, 0, 0)
	_, err := conn.Write(append(frame, payload...))
	return err
}

// The payload of the next frame.
func read(reader *bufio.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return nil, err
	}
	const closing = 8
	if head[0]&0xf == closing {
		return nil, io.EOF
	}
	size := uint64(head[1])
	switch size {
	case 126:
		var more uint16
		if err := binary.Read(reader, binary.BigEndian, &more); err != nil {
			return nil, err
		}
		size = uint64(more)
	case 127:
		if err := binary.Read(reader, binary.BigEndian, &size); err != nil {
			return nil, err
		}
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(reader, payload)
	return payload, err
}
