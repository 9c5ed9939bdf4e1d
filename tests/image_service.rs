//! The larger example, `examples/image_service`, driven over HTTP as its clients would: good and
//! bad uploads, overload, clients that go away, workers that are killed, and the end by SIGTERM.
//!
//! The service runs as a child of the test, which sees its workers by `/stats`. Where a moment has
//! to be caught, the worker is stopped (SIGSTOP) and checked to be still running its call.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{DynamicImage, ImageFormat, RgbImage};
use rustix::process::{Pid, Signal, kill_process};
use support::{HANG, PROMPTLY, descendants, eventually, is_alive, scene, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// CF-001, over HTTP.
#[test]
fn a_picture_comes_back_in_the_size_and_format_that_were_asked_for() {
    with_service(&[], async |service: &Service| {
        for (format, kind) in [("png", ImageFormat::Png), ("jpeg", ImageFormat::Jpeg)] {
            let path = format!("/resize?width=20&format={format}");
            let answer = service.post(&path, &picture(60, 30)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("content-type"), Some(kind.to_mime_type()));
            let small = image::load_from_memory_with_format(&answer.body, kind).unwrap();
            assert_eq!((small.width(), small.height()), (20, 10));
        }
        assert_eq!(service.stats().await["completed"], 2);
    });
}

/// CF-034, CF-035: the task's own error is a value, and costs no worker.
#[test]
fn what_is_no_picture_is_refused_with_the_reason() {
    with_service(&[], async |service: &Service| {
        let whole = picture(60, 30);
        let bad: [&[u8]; 4] = [
            b"",
            b"GET me a picture",
            &whole[..whole.len() / 2],
            &announcing(&whole, 100_000, 100_000),
        ];
        let workers = service.workers().await;
        for upload in bad {
            let answer = service.post("/resize?width=20", upload).await;
            assert_eq!(answer.status, 422, "{}", answer.text());
            assert!(answer.text().starts_with("cannot resize this: "));
        }
        assert_eq!(service.workers().await, workers);
        assert_eq!(service.get("/nowhere").await.status, 404);
        assert_eq!(service.post("/resize?width=x", &whole).await.status, 400);
        let huge = vec![0; (16 << 20) + 1];
        assert_eq!(service.post("/resize?width=20", &huge).await.status, 413);
    });
}

/// CF-033: a decompression bomb that kills its worker costs its own request alone.
#[test]
fn an_upload_that_kills_its_worker_costs_only_itself() {
    with_service(&[], async |service: &Service| {
        let good = picture(60, 30);
        let bomb = announcing(&good, 16_000, 16_000);
        for lost in 1..=3 {
            let fine = service.post("/resize?width=20", &good);
            let (bombed, fine) = tokio::join!(service.post("/resize?width=20", &bomb), fine);
            assert_eq!(bombed.status, 502, "{}", bombed.text());
            assert_eq!(fine.status, 200, "{}", fine.text());
            assert_eq!(service.stats().await["lost"], lost);
        }
        assert_eq!(service.post("/resize?width=20", &good).await.status, 200);
    });
}

/// CF-046: a time limit ends the work: 504, and the worker that did it is gone.
#[test]
fn a_picture_that_takes_too_long_is_ended() {
    with_service(&[("TIME_LIMIT_MS", "100")], async |service: &Service| {
        let before = service.workers().await;
        let answer = service.post(ENDLESS, &picture(64, 64)).await;
        assert_eq!(answer.status, 504, "{}", answer.text());
        let gone = || before.keys().filter(|pid| !is_alive(**pid)).count() == 1;
        assert!(soon(PROMPTLY, gone).await, "the worker goes on");
        assert_eq!(service.stats().await["timed_out"], 1);
        let next = service.post("/resize?width=20", &picture(60, 30)).await;
        assert_eq!(next.status, 200, "{}", next.text());
    });
}

/// Back pressure: who finds room gets a picture, who does not is told so at once.
#[test]
fn of_two_hundred_clients_each_gets_a_picture_or_an_honest_refusal() {
    with_service(&[("MAX_PENDING", "50")], async |service: &Service| {
        // With the workers stopped nobody is served while all the clients come.
        let workers: Vec<u32> = service.workers().await.into_keys().collect();
        let room = 50 + workers.len();
        let stopped: Vec<_> = workers.into_iter().map(Stopped::new).collect();

        let answered = Arc::new(AtomicUsize::new(0));
        let upload = picture(60, 30);
        let mut clients = JoinSet::new();
        for _ in 0..200 {
            let (address, upload, answered) = (service.address, upload.clone(), answered.clone());
            clients.spawn(async move {
                let answer = request(address, "POST", "/resize?width=20", &upload).await;
                answered.fetch_add(1, Ordering::Relaxed);
                answer
            });
        }
        let refused = || answered.load(Ordering::Relaxed) == 200 - room;
        assert!(soon(PROMPTLY, refused).await, "{answered:?} were refused");
        assert_eq!(service.stats().await["unfinished"], room as u64);

        drop(stopped);
        let answers = clients.join_all().await;
        let (served, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 200);
        assert_eq!(served.len(), room);
        for answer in refused {
            assert_eq!(answer.status, 503);
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
    });
}

/// CF-033, from outside and under load.
#[test]
fn a_worker_that_is_killed_from_outside_costs_one_request() {
    with_service(&[], async |service: &Service| {
        let upload = picture(60, 60);
        let mut clients = JoinSet::new();
        for _ in 0..20 {
            let (address, upload) = (service.address, upload.clone());
            let answer =
                async move { request(address, "POST", "/resize?width=100", &upload).await };
            clients.spawn(answer);
        }
        let victim = service.stop_one_that_runs().await;
        kill_process(victim.pid(), Signal::KILL).unwrap();
        let answers = clients.join_all().await;
        let lost = answers.iter().filter(|answer| answer.status == 502).count();
        let fine = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!((lost, fine), (1, 19));
        assert_eq!(service.stats().await["lost"], 1);
    });
}

/// Dropping the handler's future ends the work, even while it runs.
#[test]
fn a_client_that_goes_away_ends_its_work() {
    with_service(&[], async |service: &Service| {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        let upload = picture(64, 64);
        client
            .write_all(&head("POST", ENDLESS, upload.len()))
            .await
            .unwrap();
        client.write_all(&upload).await.unwrap();
        let worker = service.stop_one_that_runs().await;

        drop(client);
        assert!(soon(PROMPTLY, || !is_alive(worker.0)).await, "it goes on");
        let stats = service.stats().await;
        assert_eq!((stats["aborted"], stats["unfinished"]), (1, 0));
        let next = service.post("/resize?width=20", &upload).await;
        assert_eq!(next.status, 200, "{}", next.text());
    });
}

/// CF-019: what is in is finished, nothing new is let in, and the service ends well.
#[test]
fn sigterm_lets_requests_finish_that_have_begun() {
    with_service(&[], async |service: &Service| {
        // A client that keeps its connection without asking for anything delays nothing.
        let mut idle = TcpStream::connect(service.address).await.unwrap();
        idle.write_all(b"GET /stats HTTP/1.1\r\nHost: here\r\n\r\n")
            .await
            .unwrap();
        idle.read_u8().await.unwrap();

        let (address, upload) = (service.address, picture(120, 120));
        let begun =
            tokio::spawn(
                async move { request(address, "POST", "/resize?width=240", &upload).await },
            );
        let worker = service.stop_one_that_runs().await;

        kill_process(pid(service.child.id()), Signal::TERM).unwrap();
        let shut = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PROMPTLY, shut).await.is_ok(), "it still accepts");
        assert!(is_alive(service.child.id()) && !begun.is_finished());

        drop(worker);
        let answer = begun.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
}

/// Takes seconds in a debug build, and hundreds of milliseconds in any.
const ENDLESS: &str = "/resize?width=4096&height=4096";

/// Runs a test against a service of its own, and ends the service by SIGTERM: with exit code 0,
/// promptly, and with no process left.
fn with_service(options: &[(&str, &str)], test: impl AsyncFnOnce(&Service)) {
    let _scene = scene();
    let mut service = Service::start(options);
    let runtime = support::runtime(2);
    let ran = runtime.block_on(async { timeout(HANG, test(&service)).await });
    assert!(ran.is_ok(), "the test hangs");
    service.end();
}

/// A running service. Dropped, it is killed.
struct Service {
    child: Child,
    address: std::net::SocketAddr,
}

impl Service {
    fn start(options: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program())
            .arg("0")
            .envs(options.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        // It says one line and then nothing before it ends, so this reader loses nothing.
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.expect(&line).parse().unwrap();
        Self { child, address }
    }

    async fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, b"").await
    }

    async fn post(&self, path: &str, body: &[u8]) -> Answer {
        request(self.address, "POST", path, body).await
    }

    /// The numbers of `/stats`.
    async fn stats(&self) -> BTreeMap<String, u64> {
        let text = self.get("/stats").await.text();
        let numbers = text.lines().filter_map(|line| line.split_once(' '));
        numbers
            .map(|(name, number)| (name.to_owned(), number.parse().unwrap()))
            .collect()
    }

    /// The process ids of the workers, and whether they are running a call.
    async fn workers(&self) -> BTreeMap<u32, bool> {
        let stats = self.stats().await;
        let workers = stats.iter().filter_map(|(name, running)| {
            let (_, pid) = name.split_once("pid=\"")?;
            Some((pid.strip_suffix("\"}")?.parse().unwrap(), *running == 1))
        });
        workers.collect()
    }

    /// Stops a worker in the midst of a call.
    async fn stop_one_that_runs(&self) -> Stopped {
        loop {
            let workers = self.workers().await;
            if let Some((pid, _)) = workers.iter().find(|(_, runs)| **runs) {
                let stopped = Stopped::new(*pid);
                // It may have come to the end of that call before it was stopped.
                if self.workers().await.get(pid) == Some(&true) {
                    return stopped;
                }
            }
        }
    }

    fn end(&mut self) {
        let all = descendants(self.child.id());
        // Where the test has done this already, it is the same as once.
        kill_process(pid(self.child.id()), Signal::TERM).unwrap();
        let ended = eventually(PROMPTLY, || self.child.try_wait().unwrap().is_some());
        assert!(ended, "it does not end");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let gone = eventually(PROMPTLY, || !all.iter().any(|pid| is_alive(*pid)));
        assert!(gone, "it leaves processes behind");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example's program lies beside the folder of the tests' programs.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/image_service");
    assert!(
        path.exists(),
        "build it first: cargo build --example image_service"
    );
    path
}

/// A process that is stopped until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(number: u32) -> Self {
        let stopped = Self(number);
        kill_process(stopped.pid(), Signal::STOP).unwrap();
        let is_stopped = || {
            let status = std::fs::read_to_string(format!("/proc/{number}/stat"));
            status.is_ok_and(|status| status.contains(") T "))
        };
        assert!(eventually(PROMPTLY, is_stopped), "{number} does not stop");
        stopped
    }

    fn pid(&self) -> Pid {
        pid(self.0)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.pid(), Signal::CONT);
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).unwrap()
}

/// What the service answered.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// As much of an HTTP/1.1 client as is needed: a request on a connection of its own.
async fn request(address: std::net::SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let mut bytes = Vec::new();
    let send = async {
        writing.write_all(&head(method, path, body.len())).await?;
        writing.write_all(body).await
    };
    // An upload that is too large is answered before it was read, and the connection then closed.
    let (_sent, _read) = tokio::join!(send, reading.read_to_end(&mut bytes));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.expect("the answer has a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        body: bytes.split_off(end + 4),
        head,
    }
}

fn head(method: &str, path: &str, length: usize) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// A PNG file of a colourful picture.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let colour = |x: u32, y: u32| image::Rgb([x as u8, y as u8, (x ^ y) as u8]);
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, colour));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// The same PNG file, but its header announces another size.
fn announcing(png: &[u8], width: u32, height: u32) -> Vec<u8> {
    // The signature (8 bytes), the length of the first chunk (4), then `IHDR`, width, height, ..
    let mut png = png.to_vec();
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum: u32, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
