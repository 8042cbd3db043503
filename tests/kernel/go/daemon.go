// A runtime as typical in Go, for tests of the probes. Each command runs in a goroutine of its own.
//
//	daemon
//
// Prints the address on which it listens, then executes commands from stdin and answers each one when done:
//
//	copy FIFO     copies the FIFO to the next connection, in a goroutine that stays
//	swap FIFO     reads from the FIFO once; then reads from a file, and sends a byte to the next connection
//	serve         reads a byte from the next connection, then runs true(1), in the goroutine that serves it
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	listener := listen()
	// Nothing is closed until the end.
	var kept []interface{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		connection, err := listener.Accept()
		check(err)
		kept = append(kept, connection)
		done := make(chan bool)
		var fifo *os.File
		if len(words) > 1 {
			// Opened for reading and writing: the open does not block, and there is no EOF.
			fifo, err = os.OpenFile(words[1], os.O_RDWR, 0)
			check(err)
			kept = append(kept, fifo)
		}
		go func() {
			switch words[0] {
			case "copy":
				close(done)
				_, err := io.Copy(connection, fifo)
				check(err)
			case "swap":
				_, err := fifo.Read(make([]byte, 1))
				check(err)
				file, err := os.Open("/proc/self/stat")
				check(err)
				_, err = file.Read(make([]byte, 1))
				check(err)
				_, err = connection.Write([]byte("x"))
				check(err)
				close(done)
			case "serve":
				_, err := connection.Read(make([]byte, 1))
				check(err)
				check(exec.Command("true").Run())
				close(done)
			}
		}()
		<-done
		fmt.Println("done")
	}
}
