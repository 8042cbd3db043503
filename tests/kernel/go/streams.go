// Execs as containerd serves them, for tests of what a snapshot finds in memory.
//
//	streams FOLDER
//
// Listens on 127.0.0.1 and prints its address. `GET /EXEC?stdin=S` is a session: it makes the FIFOs FOLDER/EXEC-stdout and
// FOLDER/EXEC-stderr and copies what they give to streams of that connection, as net/http's handler, the SPDY connection
// of moby/spdystream and ExecIO.Attach of containerd do: the same structures, in the same goroutines. It answers "ready".
//
// S is "open", "ended" (the goroutine that copies stdin is gone, and leaves its stack to others), or "opaque" (output goes to
// something that is no stream, as a WebSocket's channel).
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

func attach(stdin *Stream, stdout, stderr io.WriteCloser, out, err *os.File, ends bool) {
	var group sync.WaitGroup
	group.Add(3)
	go func() {
		defer group.Done()
		if ends {
			deep(stdin, 64)
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
	<-stdin.conn.closeChan
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
		exec, mode := filepath.Base(request.URL.Path), request.URL.Query().Get("stdin")
		conn, buffered, err := response.(http.Hijacker).Hijack()
		check(err)
		defer conn.Close()
		connection := &Connection{
			conn:       &connWrapper{Conn: conn, bufReader: buffered.Reader},
			framer:     bufio.NewWriter(conn),
			closeChan:  make(chan bool),
			streamLock: new(sync.RWMutex),
			streams:    make(map[uint32]*Stream),
		}
		stream := func(id uint32) *Stream {
			made := &Stream{streamId: id, conn: connection, dataChan: make(chan []byte), closeChan: make(chan bool)}
			connection.streams[id] = made
			return made
		}
		stdin, stdout, stderr := stream(3), io.WriteCloser(streamAndReply{stream(5), nil}), io.WriteCloser(streamAndReply{stream(7), nil})
		if mode == "opaque" {
			stdout, stderr = &opaque{make(chan []byte)}, &opaque{make(chan []byte)}
		}
		go connection.serve(stdin)
		out, errors := open(filepath.Join(folder, exec+"-stdout")), open(filepath.Join(folder, exec+"-stderr"))
		fmt.Fprintln(conn, "ready")
		attach(stdin, stdout, stderr, out, errors, mode == "ended")
	}
	check(http.Serve(listener, http.HandlerFunc(handler)))
}
