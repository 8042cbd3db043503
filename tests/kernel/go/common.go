// Parts of every program in this folder.
package main

import (
	"fmt"
	"net"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Listens on a port of 127.0.0.1 and prints the address, the first line of each program's output.
func listen() net.Listener {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr())
	return listener
}
