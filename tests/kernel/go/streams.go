// Execs as containerd serves them, for tests of a snapshot's memory search.
//
//	streams FOLDER
//
// Listens on 127.0.0.1 and prints its address. `GET /EXEC?as=S` is a session: it makes the FIFOs FOLDER/EXEC-stdout and
// FOLDER/EXEC-stderr and copies their bytes to streams of that connection. Structures and goroutines are those of net/http's
// handler, the SPDY connection of moby/spdystream and ExecIO.Attach of containerd. The answer is "ready".
//
// S is "spdy", "ended" (the goroutine that copies stdin is gone, and leaves its stack to others), "websocket" (streams are
// channels of a WebSocket, as wsstream of k8s.io/apimachinery makes them), or "opaque" (the output leaves the search path).
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

// Ends with its connection, like Connection.Serve.
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

// k8s.io/kubelet, pkg/cri/streaming/remotecommand: the argument of ExecIO.
type streamAndReply struct {
	io.WriteCloser
	replySent <-chan struct{}
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

// Ends with its connection, like Conn.handle.
func (c *wsConn) serve(closed chan bool) {
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

// An output without a pointer to a connection.
type opaque struct{ done chan []byte }

func (o *opaque) Write(bytes []byte) (int, error) { o.done <- bytes; return len(bytes), nil }
func (o *opaque) Close() error                    { return nil }

// containerd/fifo opens with O_RDONLY or O_RDWR in a goroutine of its own; the poller handles the file in both cases.
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
	// In containerd, the exit of the process ends its output.
	<-closed
	out.Close()
	err.Close()
	group.Wait()
}

// Fills a stack with pointers to this stream.
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
	listener := listen()
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
			web := &wsConn{ready: make(chan struct{})}
			web.open(&webSocket{buf: buffered, rwc: conn})
			stdin, stdout, stderr = web.channels[0], web.channels[1], web.channels[2]
			go web.serve(closed)
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
