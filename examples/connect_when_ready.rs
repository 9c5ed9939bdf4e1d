//! A client connects as soon as its server is ready, and not by trying until it works.
//!
//! ```text
//! cargo run --release --example connect_when_ready
//!
//! client: waits for the server
//! server: listens
//! client: connects
//! server: process 4712 says hello
//! client: is answered "hello process 4712"
//! ```
//!
//! Server and client are processes. An `Event` tells the client, and everybody else whom it was sent to, that
//! the server listens. Were the server to die first, the client's limit would pass, and it would say so.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use procpool::{Client, Connection, Event, Listener, Process, RemoteError};

/// How long a client waits.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ready = Event::new()?;
    let address = std::env::temp_dir().join(format!("connect-when-ready-{}", std::process::id()));

    // The client first, which is the wrong order, and does no harm.
    let client = Process::spawn(call, (address.clone(), ready.clone())).await?;
    let server = Process::spawn(serve, (address, ready)).await?;
    let (served, called) = (server.join().await?, client.join().await?);
    served?;
    Ok(called?)
}

/// Takes a while to get ready, says that it is, and answers one client.
fn serve((address, ready): (PathBuf, Event)) -> Result<(), RemoteError> {
    std::thread::sleep(Duration::from_millis(200)); // as if it had a table to load
    let mut listener = Listener::<String, u32>::bind(address)?;
    println!("server: listens");
    ready.set();
    let mut client = listener.blocking_accept(Some(LIMIT))?;
    let pid = client.blocking_recv(Some(LIMIT))?;
    println!("server: process {pid} says hello");
    client.blocking_send(&format!("hello process {pid}"), Some(LIMIT))?;
    Ok(())
}

fn call((address, ready): (PathBuf, Event)) -> Result<(), RemoteError> {
    println!("client: waits for the server");
    if !ready.blocking_wait(Some(LIMIT))? {
        return Err(RemoteError::msg("there is no server"));
    }
    println!("client: connects");
    let mut server: Connection<u32, String> = Client::blocking_connect(address)?;
    server.blocking_send(&std::process::id(), Some(LIMIT))?;
    println!(
        "client: is answered {:?}",
        server.blocking_recv(Some(LIMIT))?
    );
    Ok(())
}
