//! The program itself: what protects it from what it reads.

#![cfg(target_os = "linux")]

use std::fs;

use crate::support::Space;

/// At a random address: the file is a position-independent one.
#[test]
fn it_is_position_independent() {
    let bytes = fs::read(env!("CARGO_BIN_EXE_planexe")).expect("the program");
    assert!(bytes.starts_with(b"\x7fELF"));
    // `e_type`, in the byte order that `EI_DATA` names: ET_DYN is 3, a program at a fixed address 2.
    let number = [bytes[16], bytes[17]];
    let kind = if bytes[5] == 1 { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
    assert_eq!(kind, 3, "the program is linked at a fixed address");
}

/// Rust's own entry point, which puts a guard under the stack and says which thread ran over it.
#[test]
fn a_stack_that_overflows_is_caught() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"grep SigCgt /proc/$PPID/status > $out\"\n",
    );
    space.run(&["build"]).exits(0);
    let line = space.read("a.txt");
    let mask = line.split_whitespace().nth(1).expect("a mask");
    let caught = u64::from_str_radix(mask, 16).expect("a number");
    for signal in [7, 11] {
        assert!(caught & (1 << (signal - 1)) != 0, "signal {signal} is not caught: {line}");
    }
}
