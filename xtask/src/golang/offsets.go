// Prints the offsets of a goroutine's id and of its creator's id, from the debug information of a program.
//
//	offsets PROGRAM
package main

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	file, err := elf.Open(os.Args[1])
	check(err)
	data, err := file.DWARF()
	check(err)
	entries := data.Reader()
	for {
		entry, err := entries.Next()
		check(err)
		if entry == nil {
			check(fmt.Errorf("%s has no runtime.g", os.Args[1]))
		}
		if entry.Tag != dwarf.TagStructType || entry.Val(dwarf.AttrName) != "runtime.g" {
			continue
		}
		of, err := data.Type(entry.Offset)
		check(err)
		for _, field := range of.(*dwarf.StructType).Field {
			if field.Name == "goid" || field.Name == "parentGoid" {
				fmt.Println(field.Name, field.ByteOffset)
			}
		}
		return
	}
}
