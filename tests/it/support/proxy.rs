//! A proxy on loopback that notes what it was asked.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A proxy that knows CONNECT and nothing else, and wants a name and a password.
pub struct ConnectProxy {
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                std::thread::spawn(move || Self::serve(client, &log));
            }
        });
        Self { address, asked }
    }

    fn serve(client: TcpStream, log: &Mutex<Vec<String>>) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let (mut head, mut authorized) = (String::new(), false);
        reader.read_line(&mut head)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            // me:secret
            authorized |=
                line.trim().eq_ignore_ascii_case("proxy-authorization: basic bWU6c2VjcmV0");
            if line.trim().is_empty() {
                break;
            }
        }
        log.lock().unwrap().push(head.trim().to_owned());
        let mut client = client;
        let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
        let Some(target) = target.filter(|_| authorized) else {
            return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        };
        let mut server = TcpStream::connect(target)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (mut back, mut to_client) = (server.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || {
            let _closed = io::copy(&mut back, &mut to_client);
            let _closed = to_client.shutdown(Shutdown::Both);
        });
        io::copy(&mut reader, &mut server)?;
        server.shutdown(Shutdown::Both)
    }

    pub fn take(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.dedup();
        asked
    }
}
