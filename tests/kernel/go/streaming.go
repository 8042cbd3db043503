// Structures of Kubernetes' streaming libraries, shared by streams.go and translator.go. Each of the two has its own Connection.
package main

import (
	"bufio"
	"io"
	"net/http"
	"sync"
	"time"
)

// moby/spdystream.
type Stream struct {
	streamId  uint32
	parent    *Stream
	conn      *Connection
	startChan chan error

	dataLock sync.RWMutex
	dataChan chan []byte
	unread   []byte

	priority   uint8
	headers    http.Header
	headerChan chan http.Header
	finishLock sync.Mutex
	finished   bool
	replyCond  *sync.Cond
	replied    bool
	closeChan  chan bool
}

func (s *Stream) Close() error { return nil }

// wsstream of k8s.io/apimachinery and k8s.io/streaming: Conn.
type wsConn struct {
	protocols        map[string]bool
	selectedProtocol string
	channels         []*websocketChannel
	codec            int
	ready            chan struct{}
	ws               *webSocket
	timeout          time.Duration
}

type websocketChannel struct {
	conn *wsConn
	num  byte
	r    io.Reader
	w    io.WriteCloser

	read, write bool
}

// golang.org/x/net/websocket: Conn.
type webSocket struct {
	config  *int
	request *http.Request

	buf *bufio.ReadWriter
	rwc io.ReadWriteCloser

	wio sync.Mutex
}

func (c *websocketChannel) Read(bytes []byte) (int, error) { return c.r.Read(bytes) }
func (c *websocketChannel) Close() error                   { return c.w.Close() }

// Makes the five channels: stdin, stdout, stderr, errors, and sizes of the terminal.
func (c *wsConn) open(ws *webSocket) {
	c.ws = ws
	for number := byte(0); number < 5; number++ {
		r, w := io.Pipe()
		c.channels = append(c.channels, &websocketChannel{c, number, r, w, number == 0, number != 0})
	}
}
