//! What people write themselves: a child over `tokio::process`, frames with their length in front, and a map of
//! who waits for which answer. Its worker reads what there is, and answers once it has nothing more to read.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::Way;
use crate::place::Place;
use crate::role::command;
use crate::work::Job;
use crate::workloads::look;

/// What this program is as a worker that runs jobs.
pub(crate) const ROLE: &str = "tokio";
/// What it is as one that looks at what it gets, and sends it back.
pub(crate) const ECHO: &str = "tokio_echo";

/// The workers, which are taken in turn.
pub(crate) struct Workers {
    clients: Vec<Client>,
    turn: AtomicUsize,
    _children: Vec<Child>,
}

type Call = (Job, oneshot::Sender<u64>);
type Client = mpsc::UnboundedSender<Call>;
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<u64>>>>;
pub(crate) type Writer = FramedWrite<ChildStdin, LengthDelimitedCodec>;
pub(crate) type Reader = FramedRead<ChildStdout, LengthDelimitedCodec>;

impl Workers {
    /// Either each message is flushed, or all that there are at a time.
    pub(crate) fn start(runtime: &Runtime, place: Place, workers: usize, batched: bool) -> Self {
        let start = |_| place.start(|| runtime.block_on(async { client(batched) }));
        let (clients, children) = (0..workers).map(start).unzip();
        Self {
            clients,
            turn: AtomicUsize::new(0),
            _children: children,
        }
    }
}

impl Way for Workers {
    fn call(&self, job: Job) -> impl Future<Output = u64> + Send + 'static {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        // A client that is gone shows in the answer that does not come.
        let _ = self.clients[turn % self.clients.len()].send((job, answer));
        async { answered.await.expect("the worker lives") }
    }
}

fn client(batched: bool) -> (Client, Child) {
    let (child, writer, reader) = start(ROLE);
    let waiting = Waiting::default();
    let (requests, queue) = mpsc::unbounded_channel();
    tokio::spawn(write_requests(writer, queue, waiting.clone(), batched));
    tokio::spawn(read_responses(reader, waiting));
    (requests, child)
}

/// A child, and both ways to it.
pub(crate) fn start(role: &str) -> (Child, Writer, Reader) {
    let mut command = Command::from(command(role));
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .expect("this program, again");
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(1 << 30);
    let writer = FramedWrite::new(stdin.expect("it is piped"), codec.new_codec());
    let reader = FramedRead::new(stdout.expect("it is piped"), codec.new_codec());
    (child, writer, reader)
}

async fn write_requests(
    mut pipe: Writer,
    mut queue: mpsc::UnboundedReceiver<Call>,
    waiting: Waiting,
    batched: bool,
) -> io::Result<()> {
    let (mut batch, mut id) = (Vec::new(), 0_u64);
    while queue.recv_many(&mut batch, 1024).await > 0 {
        for (job, answer) in batch.drain(..) {
            id += 1;
            waiting.lock().expect("no panic here").insert(id, answer);
            let frame = postcard::to_stdvec(&(id, job)).map_err(io::Error::other)?;
            match batched {
                true => pipe.feed(Bytes::from(frame)).await?,
                false => pipe.send(Bytes::from(frame)).await?,
            }
        }
        SinkExt::<Bytes>::flush(&mut pipe).await?;
    }
    Ok(())
}

async fn read_responses(mut pipe: Reader, waiting: Waiting) -> io::Result<()> {
    while let Some(frame) = pipe.next().await {
        let (id, answered): (u64, u64) = postcard::from_bytes(&frame?).map_err(io::Error::other)?;
        let answer = waiting.lock().expect("no panic here").remove(&id);
        if let Some(answer) = answer {
            let _ = answer.send(answered);
        }
    }
    Ok(())
}

/// The worker that runs jobs: a plain loop.
pub(crate) fn answer() -> io::Result<()> {
    serve(|request, response| {
        let (id, job): (u64, Job) = postcard::from_bytes(request).map_err(io::Error::other)?;
        postcard::to_io(&(id, job.run()), response).map_err(io::Error::other)?;
        Ok(())
    })
}

/// The worker that looks at bytes and copies them.
pub(crate) fn echo() -> io::Result<()> {
    serve(|request, response| {
        black_box(look(request));
        response.extend_from_slice(request);
        Ok(())
    })
}

fn serve(run: fn(&[u8], &mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut output = BufWriter::with_capacity(64 * 1024, stdout()?);
    let (mut request, mut response) = (Vec::new(), Vec::new());
    while !input.fill_buf()?.is_empty() {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        request.resize(u32::from_be_bytes(length) as usize, 0);
        input.read_exact(&mut request)?;
        response.clear();
        run(&request, &mut response)?;
        output.write_all(&(response.len() as u32).to_be_bytes())?;
        output.write_all(&response)?;
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    Ok(())
}

/// Standard output without the library's looking for ends of lines, which would cut writes in two.
pub(crate) fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}
