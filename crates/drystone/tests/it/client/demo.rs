//! `drystone demo`: its figures, and that nothing of it remains.

use crate::client::commands::answers::documented;
use crate::server::{PATIENCE, Place, Signal};
use rustix::process::{Pid, Signal as Sent, kill_process};
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
use types::{Clock, SystemClock};

const MIB: u64 = 1 << 20;

fn steps(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let output = place.run(&[&["demo", "--json", "--dir", "."], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    documented("demo", &answer);
    answer["steps"].as_array().expect("steps").clone()
}

/// A figure of the first step of this name.
fn figure(steps: &[Value], step: &str, name: &str) -> u64 {
    let found = steps.iter().find(|found| found["step"] == step);
    let figure = found.and_then(|found| found[name].as_u64());
    figure.unwrap_or_else(|| panic!("{step}: {name}: {steps:?}"))
}

fn is_empty(place: &Place) -> bool {
    fs::read_dir(place.path())
        .expect("it is there")
        .next()
        .is_none()
}

#[test]
fn the_figures_of_the_made_image_add_up() {
    let place = Place::new();
    let steps = steps(&place, &[]);
    assert_eq!(steps.len(), 9);
    let of = |step, name| figure(&steps, step, name);
    // Noise, text, and repeated blocks, of which 4 MiB are distinct.
    let (data, distinct) = ((64 + 64 + 48) * MIB, (64 + 64 + 4) * MIB);
    assert_eq!(of("upload the image", "read_bytes"), data);
    // A repeated block may be sent twice while it is on the way for the first time.
    let sent = of("upload the image", "wire_bytes");
    assert!((distinct..data).contains(&sent), "{sent}");
    let stored = of("upload the image", "stored_bytes");
    assert!((distinct..distinct + 2 * MIB).contains(&stored), "{stored}");

    let changed = 32 * MIB / 2;
    assert_eq!(of("upload what changed", "wire_bytes"), changed);
    let delta = of("upload what changed", "stored_bytes") - stored;
    assert!((changed..changed + MIB).contains(&delta), "{delta}");
    assert!(of("restore the second", "wire_bytes") >= data);
    assert_eq!(of("compare byte by byte", "read_bytes"), 2 * 256 * MIB);
    assert!(of("delete the first", "stored_bytes") <= stored + delta);

    let equal = steps
        .iter()
        .filter(|step| step["result"] == "equal")
        .count();
    assert_eq!(equal, 2);
    assert!(is_empty(&place));
}

#[test]
fn an_image_of_the_users_own_is_only_read() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let path = elsewhere.path().join("disk.raw");
    let image = File::create_new(&path).expect("made");
    image.set_len(5 * MIB + 12_345).expect("long");
    image.write_all_at(&[7; 12_345], 5 * MIB).expect("written");
    image.write_all_at(b"boot", 0).expect("written");
    let before = fs::read(&path).expect("read");
    let steps = steps(&place, &["--image", path.to_str().expect("text")]);
    assert_eq!(figure(&steps, "upload the image", "wire_bytes"), MIB);
    assert_eq!(fs::read(&path).expect("read"), before);
    assert!(is_empty(&place));
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let refused = place.refused(&["demo", "--dir", ".", "--image", "/dev"]);
    assert!(refused.contains("/dev is no file"), "{refused}");
    assert!(is_empty(&place));
}

/// Starts a demo, and answers the address of its server once it runs.
fn running(place: &Place) -> (Child, SocketAddr) {
    let mut demo = place
        .drystone(&["demo", "--dir", "."])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut out = BufReader::new(demo.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("a line");
    // What follows fits into the pipe.
    demo.stdout = Some(out.into_inner());
    let address = line
        .strip_prefix("A server on http://")
        .and_then(|rest| rest.split(',').next());
    let address = address.and_then(|text| text.parse().ok()).expect(&line);
    (demo, address)
}

fn send(demo: &Child, signal: Signal) {
    let signal = match signal {
        Signal::Terminate => Sent::TERM,
        Signal::Kill => Sent::KILL,
    };
    kill_process(Pid::from_child(demo), signal).expect("it runs");
}

#[test]
fn a_signal_removes_everything() {
    let place = Place::new();
    let (mut demo, address) = running(&place);
    send(&demo, Signal::Terminate);
    let status = demo.wait().expect("it is ours");
    assert_eq!(status.code(), Some(130));
    assert!(TcpStream::connect(address).is_err(), "the server is gone");
    assert!(is_empty(&place));
}

#[test]
fn the_server_does_not_outlive_a_demo_that_is_killed() {
    let place = Place::new();
    let (mut demo, address) = running(&place);
    send(&demo, Signal::Kill);
    demo.wait().expect("it is ours");
    let clock = SystemClock::new();
    while TcpStream::connect(address).is_ok() {
        assert!(clock.monotonic() < PATIENCE, "the server is still there");
        std::thread::yield_now();
    }
}
