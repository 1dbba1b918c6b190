//! One connection of a client, and the one to the server behind it.

use super::message::Message;
use super::{Fault, Seen, Shared};
use std::io;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

/// How often a slow connection moves something.
const TICKS_A_SECOND: u32 = 50;

pub(super) struct Connection<'a> {
    shared: &'a Shared,
    client: BufReader<TcpStream>,
    /// Kept for the next request.
    server: Option<BufReader<TcpStream>>,
}

/// Whether the client may send another request.
enum Then {
    Next,
    Close,
}

impl Connection<'_> {
    /// Until either side ends it. Errors are those of peers that go away.
    pub(super) fn serve(shared: &Shared, stream: TcpStream) {
        let Some(id) = shared.register(&stream) else {
            return;
        };
        let mut connection = Connection {
            shared,
            client: BufReader::new(stream),
            server: None,
        };
        while let Ok(Then::Next) = connection.exchange() {}
        let _ = connection.client.get_ref().shutdown(Shutdown::Both);
        shared.unregister(id);
    }

    fn exchange(&mut self) -> io::Result<Then> {
        let Some(mut request) = Message::request(&mut self.client)? else {
            return Ok(Then::Close);
        };
        let method = request.word(0);
        let seen = Seen {
            method: method.clone(),
            target: request.word(1),
            body_bytes: request.body.len() as u64,
        };
        let for_query = seen.target == "/";
        let fault = self.shared.decide(seen, !request.body.is_empty());
        if let Some(fault) = fault {
            if let Some(answer) = canned(fault, for_query) {
                self.client.get_ref().write_all(answer.as_bytes())?;
                self.shared.applied(fault);
                return Ok(Then::Next);
            }
            match fault {
                Fault::DropBefore => {
                    self.shared.applied(fault);
                    return Ok(Then::Close);
                }
                Fault::Stall => return self.stall(fault),
                Fault::CorruptRequest => {
                    request.corrupt();
                    self.shared.applied(fault);
                }
                _ => {}
            }
        }
        let answer = self.forward(&request, &method, fault)?;
        self.answer(answer, fault)
    }

    /// Passes a request on, and reads the answer whole.
    fn forward(
        &mut self,
        request: &Message,
        method: &str,
        fault: Option<Fault>,
    ) -> io::Result<Message> {
        let mut server = match self.server.take().filter(is_open) {
            Some(server) => server,
            None => BufReader::new(TcpStream::connect(self.shared.server)?),
        };
        let id = self.shared.register(server.get_ref());
        // A server may answer and close before it has read everything: its answer counts.
        let _ = write_at(server.get_ref(), &request.bytes(), fault);
        let answer = Message::answer(&mut server, method);
        id.inspect(|id| self.shared.unregister(*id));
        let answer = answer?;
        if !answer.closes() {
            self.server = Some(server);
        }
        Ok(answer)
    }

    fn answer(&mut self, mut answer: Message, fault: Option<Fault>) -> io::Result<Then> {
        let half = answer.head.len() + answer.body.len() / 2;
        match fault {
            Some(fault @ Fault::DropAfter) => {
                self.shared.applied(fault);
                return Ok(Then::Close);
            }
            Some(fault @ (Fault::DropInBody | Fault::StallInBody)) => {
                self.client.get_ref().write_all(&answer.bytes()[..half])?;
                if fault == Fault::StallInBody {
                    return self.stall(fault);
                }
                self.shared.applied(fault);
                return Ok(Then::Close);
            }
            Some(fault @ Fault::CorruptAnswer) if answer.corrupt() => self.shared.applied(fault),
            Some(fault @ Fault::NoExtensions) => {
                answer.hide_header("x-drystone-extensions");
                self.shared.applied(fault);
            }
            Some(fault @ Fault::Slow(_)) => self.shared.applied(fault),
            _ => {}
        }
        write_at(self.client.get_ref(), &answer.bytes(), fault)?;
        Ok(if answer.closes() {
            Then::Close
        } else {
            Then::Next
        })
    }

    /// Until the client gives up, or the proxy ends.
    fn stall(&mut self, fault: Fault) -> io::Result<Then> {
        self.shared.applied(fault);
        let mut rest = [0; 4096];
        while self.client.read(&mut rest)? > 0 {}
        Ok(Then::Close)
    }
}

/// Whether the server has not closed the connection since its last answer.
fn is_open(server: &BufReader<TcpStream>) -> bool {
    let stream = server.get_ref();
    let quiet = |result: io::Result<usize>| {
        result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    let open = stream.set_nonblocking(true).is_ok() && quiet(stream.peek(&mut [0]));
    stream.set_nonblocking(false).is_ok() && open
}

/// Writes at the speed of [`Fault::Slow`], or at once.
fn write_at(mut to: &TcpStream, bytes: &[u8], fault: Option<Fault>) -> io::Result<()> {
    let Some(Fault::Slow(bytes_a_second)) = fault else {
        return to.write_all(bytes);
    };
    for piece in bytes.chunks((bytes_a_second / TICKS_A_SECOND).max(1) as usize) {
        to.write_all(piece)?;
        thread::sleep(Duration::from_secs(1) / TICKS_A_SECOND);
    }
    Ok(())
}

/// What a server in trouble says (SPEC 5.1, 5.2).
fn canned(fault: Fault, for_query: bool) -> Option<String> {
    let (status, code, message, reason) = match fault {
        Fault::InternalError => (500, "InternalServerException", "An error.", None),
        Fault::Unavailable => (503, "ServiceUnavailable", "Come again.", None),
        Fault::Throttled => (400, "ThrottlingException", "Rate exceeded", None),
        Fault::SnapshotThrottled => (
            400,
            "RequestThrottledException",
            "The rate limit of the snapshot is exceeded.",
            Some("RESOURCE_LEVEL_THROTTLE"),
        ),
        Fault::BodyNotRead => (
            400,
            "ValidationException",
            "Failed to read block data",
            Some("INVALID_PARAMETER_VALUE"),
        ),
        Fault::TokenExpired => (
            400,
            "ValidationException",
            "The block token is invalid.",
            Some("INVALID_BLOCK_TOKEN"),
        ),
        _ => return None,
    };
    let retry_after = match fault {
        Fault::Throttled | Fault::SnapshotThrottled => "x-amz-retry-after: 20\r\n",
        _ => "",
    };
    let body = if for_query {
        let code = match fault {
            Fault::Throttled | Fault::SnapshotThrottled => "RequestLimitExceeded",
            Fault::InternalError => "InternalError",
            Fault::Unavailable => "Unavailable",
            _ => code,
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code>\
             <Message>{message}</Message></Error></Errors><RequestID>proxy</RequestID></Response>"
        )
    } else {
        let reason = reason.map(|reason| format!(",\"Reason\":\"{reason}\""));
        format!(
            "{{\"__type\":\"{code}\",\"message\":\"{message}\"{}}}",
            reason.unwrap_or_default()
        )
    };
    let kind = if for_query {
        "text/xml"
    } else {
        "application/x-amz-json-1.1"
    };
    let status = match (for_query, status) {
        (true, 400) if !retry_after.is_empty() => 503,
        (_, status) => status,
    };
    Some(format!(
        "HTTP/1.1 {status} Fault\r\ncontent-type: {kind}\r\nx-amzn-errortype: {code}\r\n{retry_after}\
         x-amzn-requestid: proxy\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}
