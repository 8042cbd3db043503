// A relay that moves bytes by one given pair of system calls, for tests of every way to see sends and receives.
//
//	roads HOW NETWORK BACKEND
//
// HOW is "read" (read and write), "readv" (readv and writev), "recv" (recvfrom and sendto), "recvmsg" (recvmsg and sendmsg),
// "peek" (as "recv", after a recvfrom that leaves the bytes in place) or "splice". NETWORK is "tcp4", "tcp6" or "unix"; BACKEND
// is an address of it. Prints the address on which it listens (127.0.0.1:0 for "unix": the socket is BACKEND.relay), and for
// each connection the inode numbers of its inbound and outbound socket.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

type connection interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

type vector struct {
	base *byte
	len  uint64
}

type header struct {
	name    uintptr
	nameLen uint32
	vectors *vector
	count   uint64
	control uintptr
	length  uint64
	flags   int32
}

const noSignal = 0x4000

// One system call. Pointers become numbers within the call itself, as Go demands.
func call(how string, send bool, fd uintptr, bytes []byte) (have uintptr, err syscall.Errno) {
	count := uintptr(len(bytes))
	parts := &vector{&bytes[0], uint64(len(bytes))}
	whole := &header{vectors: parts, count: 1}
	pick := func(receiving, sending uintptr) uintptr {
		if send {
			return sending
		}
		return receiving
	}
	switch how {
	case "read":
		have, _, err = syscall.Syscall(pick(syscall.SYS_READ, syscall.SYS_WRITE), fd, uintptr(unsafe.Pointer(&bytes[0])), count)
	case "readv":
		have, _, err = syscall.Syscall(pick(syscall.SYS_READV, syscall.SYS_WRITEV), fd, uintptr(unsafe.Pointer(parts)), 1)
	case "recv", "peek":
		have, _, err = syscall.Syscall6(pick(syscall.SYS_RECVFROM, syscall.SYS_SENDTO), fd,
			uintptr(unsafe.Pointer(&bytes[0])), count, pick(0, noSignal), 0, 0)
	case "recvmsg":
		have, _, err = syscall.Syscall(pick(syscall.SYS_RECVMSG, syscall.SYS_SENDMSG), fd,
			uintptr(unsafe.Pointer(whole)), pick(0, noSignal))
	}
	return
}

// Waits for the socket as Go's own reads do, and calls until the call is through.
func do(how string, send bool, raw syscall.RawConn, bytes []byte) int {
	have := -1
	act := func(fd uintptr) bool {
		if how == "peek" && !send {
			one := make([]byte, 1)
			syscall.Syscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one[0])), 1, syscall.MSG_PEEK, 0, 0)
		}
		count, err := call(how, send, fd, bytes)
		for err == syscall.EINTR {
			count, err = call(how, send, fd, bytes)
		}
		if err == 0 {
			have = int(count)
		}
		return err != syscall.EAGAIN
	}
	if send {
		check(raw.Write(act))
	} else {
		check(raw.Read(act))
	}
	return have
}

func passOn(how string, from, to connection, done *sync.WaitGroup) {
	defer done.Done()
	defer to.CloseWrite()
	if how == "splice" {
		io.Copy(to, from)
		return
	}
	in, err := from.SyscallConn()
	check(err)
	out, err := to.SyscallConn()
	check(err)
	bytes := make([]byte, 4096)
	for {
		have := do(how, false, in, bytes)
		if have <= 0 {
			return
		}
		for sent := 0; sent < have; {
			more := do(how, true, out, bytes[sent:have])
			if more <= 0 {
				return
			}
			sent += more
		}
	}
}

func inode(of connection) uint64 {
	raw, err := of.SyscallConn()
	check(err)
	var stat syscall.Stat_t
	check(raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &stat) }))
	check(err)
	return stat.Ino
}

func main() {
	how, network, backend := os.Args[1], os.Args[2], os.Args[3]
	at := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": backend + ".relay"}[network]
	listener, err := net.Listen(network, at)
	check(err)
	if network == "unix" {
		fmt.Println("127.0.0.1:0")
	} else {
		fmt.Println(listener.Addr())
	}
	for {
		accepted, err := listener.Accept()
		check(err)
		go func() {
			inbound := accepted.(connection)
			dialled, err := net.Dial(network, backend)
			check(err)
			outbound := dialled.(connection)
			fmt.Println(inode(inbound), inode(outbound))
			var done sync.WaitGroup
			done.Add(2)
			go passOn(how, inbound, outbound, &done)
			go passOn(how, outbound, inbound, &done)
			done.Wait()
			inbound.Close()
			outbound.Close()
		}()
	}
}
