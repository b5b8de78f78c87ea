//! Streams to and from the host, many at once.

use std::fs::File;
use std::io::{Read, Write};
use std::thread;

use super::{Outcome, at, expect};
use crate::sys::vsock;

/// Where programs of the host wait for the guest.
const HOST_PORT: u32 = 5000;
/// Where the guest waits for the host.
const GUEST_PORT: u32 = 6000;
/// Streams from each side.
const STREAMS: u8 = 100;
/// Bytes that go through each, in each direction.
const BYTES: usize = 48 << 10;

/// The guest opens a hundred streams to an echo on the host, is an echo for a hundred of the host's, and only then do
/// all of them talk at once. Those that call check what comes back.
pub(crate) fn carries_two_hundred_streams() -> Outcome {
    let listener = vsock::listen(GUEST_PORT, i32::from(STREAMS)).map_err(at("listen"))?;
    let open = |_| vsock::connect(HOST_PORT).map_err(at("connect"));
    let ours = (0..STREAMS).map(open).collect::<Result<Vec<_>, _>>()?;
    println!("vsock streams open");
    let theirs =
        (0..STREAMS).map(|_| listener.accept().map_err(at("accept"))).collect::<Result<Vec<_>, _>>()?;
    let callers =
        ours.into_iter().zip(0..).map(|(stream, number)| thread::spawn(move || call(stream, number)));
    let callers: Vec<_> = callers.collect();
    let echoes: Vec<_> = theirs.into_iter().map(|stream| thread::spawn(move || echo(stream))).collect();
    let mut all = callers.into_iter().chain(echoes);
    all.try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
}

/// Sends this stream's own bytes while it hears them again.
fn call(stream: File, number: u8) -> Outcome {
    let bytes: Vec<u8> = (0..=250).cycle().take(BYTES).map(|byte: u8| byte ^ number).collect();
    let mut reader = stream.try_clone().map_err(at("duplicate a stream"))?;
    let hearing = thread::spawn(move || {
        let mut heard = vec![0; BYTES];
        reader.read_exact(&mut heard).map(|()| heard)
    });
    (&stream).write_all(&bytes).map_err(at("write"))?;
    let heard = hearing.join().map_err(|_| "a thread panicked")?.map_err(at("read"))?;
    expect(heard == bytes, || format!("stream {number} brought other bytes back"))
}

/// Sends back what it hears.
fn echo(mut stream: File) -> Outcome {
    let mut buffer = vec![0; 8192];
    let mut left = BYTES;
    while left > 0 {
        let count = stream.read(&mut buffer).map_err(at("read for an echo"))?;
        expect(count > 0, || format!("the host left with {left} bytes to come"))?;
        stream.write_all(&buffer[..count]).map_err(at("write an echo"))?;
        left -= count;
    }
    Ok(())
}

/// The host takes a snapshot while the guest waits for an answer. Restored, the guest hears that its stream is gone, and
/// says so on a new one.
pub(crate) fn hears_of_a_restore() -> Outcome {
    let mut stream = vsock::connect(HOST_PORT).map_err(at("connect"))?;
    stream.write_all(b"waiting").map_err(at("write"))?;
    let heard = stream.read(&mut [0; 16]);
    let Err(error) = heard else { return Err(format!("heard {heard:?} on a stream that is gone")) };
    let reset = error.raw_os_error() == Some(libc::ECONNRESET);
    expect(reset, || format!("the stream ended with {error}"))?;
    let mut again = vsock::connect(HOST_PORT).map_err(at("connect again"))?;
    again.write_all(b"restored").map_err(at("write again"))?;
    let mut answer = [0; 4];
    again.read_exact(&mut answer).map_err(at("read again"))?;
    expect(&answer == b"good", || format!("the answer is {answer:?}"))
}
