// A proxy that translates, for tests of a snapshot's memory search.
//
//	translator BACKEND
//
// WebSocket on the one side, SPDY on the other, as in the API server of Kubernetes 1.30 and later and in its kubelet since 1.36
// (k8s.io/apiserver, pkg/util/proxy/streamtranslator.go). A small equivalent, not their code: the same structures and
// goroutines as wsstream of k8s.io/streaming, golang.org/x/net/websocket, moby/spdystream and remotecommand of k8s.io/client-go.
// Frames are a stream's number and its data. Prints the address on which it listens. Each connection begins with eight
// bytes, which are passed on unchanged; with a first byte of "o" the client sends no input, and no goroutine copies any.
package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

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

func (c *wsConn) handle(ws *webSocket) {
	c.open(ws)
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

	web := &wsConn{ready: make(chan struct{})}
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
	listener := listen()
	for {
		inbound, err := listener.Accept()
		check(err)
		go serve(os.Args[1], inbound)
	}
}
