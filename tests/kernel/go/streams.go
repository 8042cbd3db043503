// Execs as containerd serves them, for tests of what a snapshot finds in memory.
//
//	streams FOLDER
//
// Listens on 127.0.0.1 and prints its address. `GET /EXEC?as=S` is a session: it makes the FIFOs FOLDER/EXEC-stdout and
// FOLDER/EXEC-stderr and copies what they give to streams of that connection, as net/http's handler, the SPDY connection
// of moby/spdystream and ExecIO.Attach of containerd do: the same structures, in the same goroutines. It answers "ready".
//
// S is "spdy", "ended" (the goroutine that copies stdin is gone, and leaves its stack to others), "websocket" (streams are
// channels of a WebSocket, as wsstream of k8s.io/apimachinery makes them), or "opaque" (output goes to something else).
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
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
	framer    *bufio.Writer
	writeLock sync.Mutex

	closeChan  chan bool
	streamLock *sync.RWMutex
	streams    map[uint32]*Stream
}

// k8s.io/apimachinery, httpstream/spdy.
type connWrapper struct {
	net.Conn
	closed    int32
	bufReader *bufio.Reader
}

func (w *connWrapper) Read(bytes []byte) (int, error) { return w.bufReader.Read(bytes) }

// Ends with its connection, as Connection.Serve does.
func (c *Connection) serve(stdin *Stream) {
	for {
		frame := make([]byte, 64)
		have, err := c.conn.Read(frame)
		if err != nil {
			close(stdin.dataChan)
			close(c.closeChan)
			return
		}
		stdin.dataChan <- frame[:have]
	}
}

func (s *Stream) Write(bytes []byte) (int, error) {
	s.conn.writeLock.Lock()
	defer s.conn.writeLock.Unlock()
	have, err := s.conn.framer.Write(bytes)
	if err == nil {
		err = s.conn.framer.Flush()
	}
	return have, err
}

func (s *Stream) Read(bytes []byte) (int, error) {
	data, ok := <-s.dataChan
	if !ok {
		return 0, io.EOF
	}
	return copy(bytes, data), nil
}

func (s *Stream) Close() error { return nil }

// k8s.io/kubelet, pkg/cri/streaming/remotecommand: what ExecIO is handed.
type streamAndReply struct {
	io.WriteCloser
	replySent <-chan struct{}
}

// k8s.io/apimachinery, httpstream/wsstream.
type channels struct {
	protocols        map[string]bool
	selectedProtocol string
	channels         []*websocketChannel
	codec            int
	ready            chan struct{}
	ws               *webSocket
	timeout          time.Duration
}

type websocketChannel struct {
	conn *channels
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

func (c *websocketChannel) Write(bytes []byte) (int, error) {
	ws := c.conn.ws
	ws.wio.Lock()
	defer ws.wio.Unlock()
	have, err := ws.buf.Write(bytes)
	if err == nil {
		err = ws.buf.Flush()
	}
	return have, err
}

func (c *websocketChannel) Read(bytes []byte) (int, error) { return c.r.Read(bytes) }
func (c *websocketChannel) Close() error                   { return c.w.Close() }

// Five of them: stdin, stdout, stderr, errors, and sizes of the terminal.
func upgrade(conn net.Conn, buffered *bufio.ReadWriter) *channels {
	made := &channels{ready: make(chan struct{}), ws: &webSocket{buf: buffered, rwc: conn}}
	for number := byte(0); number < 5; number++ {
		r, w := io.Pipe()
		made.channels = append(made.channels, &websocketChannel{made, number, r, w, number == 0, number != 0})
	}
	return made
}

// Ends with its connection, as Conn.handle does.
func (c *channels) serve(closed chan bool) {
	frame := make([]byte, 64)
	for {
		have, err := c.ws.buf.Read(frame)
		if err != nil {
			break
		}
		c.channels[0].w.Write(frame[:have])
	}
	for _, channel := range c.channels {
		channel.Close()
	}
	close(closed)
}

// Output that leads nowhere.
type opaque struct{ done chan []byte }

func (o *opaque) Write(bytes []byte) (int, error) { o.done <- bytes; return len(bytes), nil }
func (o *opaque) Close() error                    { return nil }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// containerd/fifo opens with O_RDONLY or O_RDWR in a goroutine of its own; the file is the poller's in either case.
func open(path string) *os.File {
	check(syscall.Mkfifo(path, 0600))
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	check(err)
	return file
}

func attach(stdin io.Reader, closed chan bool, stdout, stderr io.WriteCloser, out, err *os.File, left *Stream) {
	var group sync.WaitGroup
	group.Add(3)
	go func() {
		defer group.Done()
		if left != nil {
			deep(left, 64)
			return
		}
		io.Copy(io.Discard, stdin)
	}()
	attachOutput := func(stream io.WriteCloser, from io.ReadCloser) {
		io.Copy(stream, from)
		from.Close()
		stream.Close()
		group.Done()
	}
	go attachOutput(stdout, out)
	go attachOutput(stderr, err)
	// In containerd the end of the process ends its output.
	<-closed
	out.Close()
	err.Close()
	group.Wait()
}

// Fills a stack with words that lead to that stream.
//
//go:noinline
func deep(stream *Stream, depth int) int {
	words := [16]*Stream{}
	for index := range words {
		words[index] = stream
	}
	if depth > 0 {
		return deep(words[depth%16], depth-1) + int(words[3].streamId)
	}
	time.Sleep(time.Millisecond)
	return int(words[5].streamId)
}

func main() {
	folder := os.Args[1]
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr())
	handler := func(response http.ResponseWriter, request *http.Request) {
		exec, as := filepath.Base(request.URL.Path), request.URL.Query().Get("as")
		conn, buffered, err := response.(http.Hijacker).Hijack()
		check(err)
		defer conn.Close()
		open := func(name string) *os.File { return open(filepath.Join(folder, exec+"-"+name)) }
		var stdin io.Reader
		var stdout, stderr io.WriteCloser
		var left *Stream
		closed := make(chan bool)
		if as == "websocket" {
			channels := upgrade(conn, buffered)
			stdin, stdout, stderr = channels.channels[0], channels.channels[1], channels.channels[2]
			go channels.serve(closed)
		} else {
			connection := &Connection{
				conn:       &connWrapper{Conn: conn, bufReader: buffered.Reader},
				framer:     bufio.NewWriter(conn),
				closeChan:  closed,
				streamLock: new(sync.RWMutex),
				streams:    make(map[uint32]*Stream),
			}
			stream := func(id uint32) *Stream {
				made := &Stream{streamId: id, conn: connection, dataChan: make(chan []byte), closeChan: make(chan bool)}
				connection.streams[id] = made
				return made
			}
			input := stream(3)
			stdin, stdout, stderr = input, streamAndReply{stream(5), nil}, streamAndReply{stream(7), nil}
			switch as {
			case "opaque":
				stdout, stderr = &opaque{make(chan []byte)}, &opaque{make(chan []byte)}
			case "ended":
				left = input
			}
			go connection.serve(input)
		}
		out, errors := open("stdout"), open("stderr")
		fmt.Fprintln(conn, "ready")
		attach(stdin, closed, stdout, stderr, out, errors, left)
	}
	check(http.Serve(listener, http.HandlerFunc(handler)))
}
