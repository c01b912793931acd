//! Output around the markers between tasks.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use super::Tap;
use crate::wire::Marker;

const MARKER: fn() -> Marker = || Marker::new(42);

fn pipe() -> (Tap, File) {
    let (read, write) = std::io::pipe().unwrap();
    let read = File::from(OwnedFd::from(read));
    rustix::io::ioctl_fionbio(&read, true).unwrap();
    (Tap::new(read, MARKER()), File::from(OwnedFd::from(write)))
}

#[test]
fn prints_after_a_marker_wait_for_its_frame() {
    let (mut tap, mut pipe) = pipe();
    pipe.write_all(b"one\ntwo").unwrap();
    pipe.write_all(&MARKER().bytes(1)).unwrap();
    pipe.write_all(b"three\n").unwrap();
    assert_eq!(tap.read_some(), b"one\n");
    assert_eq!(tap.read_some(), b"");
    assert_eq!(tap.read_to(1), b"two\n");
    assert_eq!(tap.read_some(), b"three\n");
}

#[test]
fn what_was_read_with_a_marker_is_there_once_it_is_passed() {
    let (mut tap, mut pipe) = pipe();
    pipe.write_all(&MARKER().bytes(1)).unwrap();
    pipe.write_all(b"one\n").unwrap();
    pipe.write_all(&MARKER().bytes(2)).unwrap();
    pipe.write_all(b"two\n").unwrap();
    assert_eq!(tap.read_some(), b"");
    assert_eq!(tap.take_lines(), b"", "the first frame has not come");
    assert_eq!(tap.read_to(1), b"");
    assert_eq!(tap.take_lines(), b"one\n");
    assert_eq!(tap.read_to(2), b"");
    assert_eq!(tap.take_lines(), b"two\n");
}

#[test]
fn every_marker_number_is_found() {
    // Number 10 holds a newline byte.
    let (mut tap, mut pipe) = pipe();
    for number in 1..=300u64 {
        pipe.write_all(b"x").unwrap();
        pipe.write_all(&MARKER().bytes(number)).unwrap();
        assert_eq!(tap.read_some(), b"", "{number}");
        assert_eq!(tap.read_to(number), b"x\n", "{number}");
    }
}

#[test]
fn the_rest_of_the_dead_is_whole_lines_without_markers() {
    let (mut tap, mut pipe) = pipe();
    pipe.write_all(b"a").unwrap();
    pipe.write_all(&MARKER().bytes(1)).unwrap();
    pipe.write_all(b"b\nlast").unwrap();
    assert_eq!(tap.read_rest(), b"a\nb\nlast\n");
}

#[test]
fn a_line_without_end_is_passed_on_in_parts() {
    let (mut tap, mut pipe) = pipe();
    let writer = std::thread::spawn(move || pipe.write_all(&[b'x'; 300_000]).unwrap());
    let mut seen = 0;
    while !tap.ended() {
        seen += tap.read_some().iter().filter(|b| **b == b'x').count();
    }
    writer.join().unwrap();
    seen += tap.read_rest().len().saturating_sub(1);
    assert_eq!(seen, 300_000);
}
