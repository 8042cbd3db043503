// A proxy that translates, for tests of what a snapshot finds in memory.
//
//	translator BACKEND
//
// WebSocket on the one side, SPDY on the other, as the API server of Kubernetes 1.30 and later, and its kubelet since 1.36, do it
// (k8s.io/apiserver, pkg/util/proxy/streamtranslator.go). A small equivalent, not their code: the same structures and
// goroutines as wsstream of k8s.io/streaming, golang.org/x/net/websocket, moby/spdystream and remotecommand of k8s.io/client-go.
// Frames are a number of a stream and what it carries. Prints the address on which it listens. Each connection begins
// with eight bytes, which are passed on as they are; with a first byte of "o", the client sends no input: nobody copies it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

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

type Connection struct {
	conn      net.Conn
	framer    *framer
	writeLock sync.Mutex

	closeChan      chan bool
	goneAway       bool
	lastStreamChan chan<- *Stream
	goAwayTimeout  time.Duration
	closeTimeout   time.Duration
	idleTimeout    time.Duration

	streamLock *sync.RWMutex
	streamCond *sync.Cond
	streams    map[uint32]*Stream
}

type framer struct {
	w io.Writer
	r io.Reader
}

//go:noinline
func (f *framer) ReadFrame() ([]byte, error) {
	frame := make([]byte, 64)
	have, err := f.r.Read(frame)
	return frame[:have], err
}

func (c *Connection) Serve() {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			break
		}
		c.streamLock.RLock()
		stream := c.streams[uint32(frame[0])]
		c.streamLock.RUnlock()
		if stream != nil {
			stream.dataChan <- frame[1:]
		}
	}
	close(c.closeChan)
	for _, stream := range c.streams {
		close(stream.closeChan)
	}
}

func (c *Connection) CreateStream(id uint32) *Stream {
	made := &Stream{
		streamId: id, conn: c, startChan: make(chan error),
		dataChan: make(chan []byte), headerChan: make(chan http.Header), closeChan: make(chan bool),
	}
	c.streamLock.Lock()
	c.streams[id] = made
	c.streamLock.Unlock()
	return made
}

func (s *Stream) Write(bytes []byte) (int, error) {
	s.conn.writeLock.Lock()
	defer s.conn.writeLock.Unlock()
	return s.conn.framer.w.Write(append([]byte{byte(s.streamId)}, bytes...))
}

func (s *Stream) Read(bytes []byte) (int, error) {
	if s.unread == nil {
		select {
		case <-s.closeChan:
			return 0, io.EOF
		case read, ok := <-s.dataChan:
			if !ok {
				return 0, io.EOF
			}
			s.unread = read
		}
	}
	have := copy(bytes, s.unread)
	s.unread = nil
	return have, nil
}

func (s *Stream) Close() error { return nil }

// wsstream: Conn.
type conns struct {
	protocols        map[string]bool
	selectedProtocol string
	channels         []*websocketChannel
	codec            int
	ready            chan struct{}
	ws               *webSocket
	timeout          time.Duration
}

type websocketChannel struct {
	conn *conns
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

//go:noinline
func (ws *webSocket) Receive() ([]byte, error) {
	frame := make([]byte, 64)
	have, err := ws.buf.Read(frame)
	return frame[:have], err
}

func (c *websocketChannel) Write(bytes []byte) (int, error) {
	ws := c.conn.ws
	ws.wio.Lock()
	defer ws.wio.Unlock()
	if _, err := ws.buf.Write(append([]byte{c.num}, bytes...)); err != nil {
		return 0, err
	}
	return len(bytes), ws.buf.Flush()
}

func (c *websocketChannel) Read(bytes []byte) (int, error) { return c.r.Read(bytes) }
func (c *websocketChannel) Close() error                   { return c.w.Close() }

func (c *conns) handle(ws *webSocket) {
	c.ws = ws
	for number := byte(0); number < 5; number++ {
		r, w := io.Pipe()
		c.channels = append(c.channels, &websocketChannel{c, number, r, w, number == 0, number != 0})
	}
	close(c.ready)
	for {
		frame, err := ws.Receive()
		if err != nil {
			break
		}
		if channel := frame[0]; int(channel) < len(c.channels) {
			c.channels[channel].w.Write(frame[1:])
		}
	}
	for _, channel := range c.channels {
		channel.Close()
	}
}

// remotecommand: v2.go.
type readerWrapper struct{ reader io.Reader }

func (r readerWrapper) Read(bytes []byte) (int, error) { return r.reader.Read(bytes) }

type protocol struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	remoteStdin, remoteStdout, remoteStderr io.ReadWriteCloser
}

func (p *protocol) copyStdin() {
	if p.Stdin == nil {
		return
	}
	var once sync.Once
	go func() {
		defer once.Do(func() { p.remoteStdin.Close() })
		io.Copy(p.remoteStdin, readerWrapper{p.Stdin})
	}()
	go func() {
		defer once.Do(func() { p.remoteStdin.Close() })
		io.Copy(io.Discard, p.remoteStdin)
	}()
}

func (p *protocol) copyOutput(done *sync.WaitGroup) {
	copies := func(to io.Writer, from io.Reader) {
		defer done.Done()
		io.Copy(to, from)
	}
	done.Add(2)
	go copies(p.Stdout, p.remoteStdout)
	go copies(p.Stderr, p.remoteStderr)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(backend string, inbound net.Conn) {
	defer inbound.Close()
	hello := make([]byte, 8)
	if _, err := io.ReadFull(inbound, hello); err != nil {
		return
	}
	outbound, err := net.Dial("tcp", backend)
	check(err)
	defer outbound.Close()
	_, err = outbound.Write(hello)
	check(err)

	web := &conns{ready: make(chan struct{})}
	buffered := bufio.NewReadWriter(bufio.NewReader(inbound), bufio.NewWriter(inbound))
	go web.handle(&webSocket{buf: buffered, rwc: inbound})
	<-web.ready
	spdy := &Connection{
		conn: outbound, framer: &framer{outbound, outbound}, closeChan: make(chan bool),
		streamLock: new(sync.RWMutex), streams: make(map[uint32]*Stream),
	}
	spdy.streamCond = sync.NewCond(spdy.streamLock)
	go spdy.Serve()

	p := &protocol{
		Stdout: web.channels[1], Stderr: web.channels[2],
		remoteStdin: spdy.CreateStream(1), remoteStdout: spdy.CreateStream(3), remoteStderr: spdy.CreateStream(5),
	}
	if hello[0] != 'o' {
		p.Stdin = web.channels[0]
	}
	p.copyStdin()
	var done sync.WaitGroup
	p.copyOutput(&done)
	done.Wait()
}

func main() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr())
	for {
		inbound, err := listener.Accept()
		check(err)
		go serve(os.Args[1], inbound)
	}
}
