//! Making, taking, refusing and emptying data directories.

use super::{DataDir, Layout, VERSION_PREFIX};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn layout(under: &tempfile::TempDir) -> Layout {
    Layout::new(&under.path().join("data")).expect("an absolute path")
}

fn refused(layout: &Layout, because: &str) {
    let error = format!(
        "{:#}",
        DataDir::create_or_open(layout.clone()).expect_err(because)
    );
    assert!(error.contains(because), "{error}");
}

#[test]
fn a_new_directory_is_private_and_opens_again() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    drop(DataDir::create_or_open(layout.clone()).expect("made"));
    let mode = fs::metadata(layout.root())
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(DataDir::create_or_open(layout.clone()).expect("opened"));
    DataDir::open(layout).expect("opened");
}

#[test]
fn only_one_process_has_it() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    let first = DataDir::create_or_open(layout.clone()).expect("made");
    refused(
        &layout,
        &format!("{} is in use by another", layout.root().display()),
    );
    refused(&layout, &format!("(pid {})", std::process::id()));
    drop(first);
    DataDir::create_or_open(layout).expect("free again");
}

#[test]
fn a_newer_layout_is_refused_with_both_versions() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    drop(DataDir::create_or_open(layout.clone()).expect("made"));
    fs::write(layout.version(), format!("{VERSION_PREFIX}7\n")).expect("written");
    refused(
        &layout,
        "layout version 7, this program knows versions up to 1",
    );
    fs::write(layout.version(), "7\n").expect("written");
    refused(&layout, "not readable as a version");
}

#[test]
fn other_peoples_directories_are_left_alone() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    fs::create_dir(layout.root()).expect("made");
    fs::write(layout.root().join("thesis.tex"), "x").expect("written");
    refused(&layout, "holds other files (thesis.tex)");
    let left = fs::read_dir(layout.root()).expect("readable").count();
    assert_eq!(left, 1);
}

#[test]
fn a_first_start_that_was_cut_off_is_finished() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    fs::create_dir(layout.root()).expect("made");
    fs::write(layout.root().join("lock"), "1\n").expect("written");
    fs::write(layout.root().join("VERSION.new"), "dryst").expect("written");
    drop(DataDir::create_or_open(layout.clone()).expect("finished"));
    assert!(!layout.root().join("VERSION.new").exists());
}

#[test]
fn a_catalog_without_its_root_key_is_refused() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    drop(DataDir::create_or_open(layout.clone()).expect("made"));
    fs::write(layout.catalog(), "").expect("written");
    refused(&layout, "root.key is missing");
}

#[test]
fn scratch_is_emptied_and_no_link_is_followed() {
    let under = tempfile::tempdir().expect("a directory");
    let layout = layout(&under);
    let data = DataDir::create_or_open(layout.clone()).expect("made");
    let scratch = data.fresh_scratch().expect("made");
    let others = under.path().join("others");
    fs::create_dir(&others).expect("made");
    fs::write(others.join("thesis.tex"), "x").expect("written");
    fs::create_dir(scratch.join("deep")).expect("made");
    fs::write(scratch.join("deep/run"), "x").expect("written");
    fs::write(scratch.join("run"), "x").expect("written");
    symlink(&others, scratch.join("link")).expect("linked");
    symlink(&others, scratch.join("deep/link")).expect("linked");
    data.fresh_scratch().expect("emptied");
    let left = fs::read_dir(&scratch).expect("readable").count();
    assert_eq!(left, 0);

    fs::remove_dir(&scratch).expect("empty");
    symlink(&others, &scratch).expect("linked");
    let refusal = data.fresh_scratch().expect_err("a link").to_string();
    assert!(refusal.contains("is no directory"), "{refusal}");
    assert!(others.join("thesis.tex").exists());
}

#[test]
fn a_directory_that_never_served_is_named() {
    let under = tempfile::tempdir().expect("a directory");
    let error = DataDir::open(layout(&under))
        .expect_err("nothing is there")
        .to_string();
    assert!(error.contains("is no Drystone data directory"), "{error}");
    assert!(!under.path().join("data").exists());
}

#[test]
fn starts_are_remembered_for_each_store() {
    let under = tempfile::tempdir().expect("a directory");
    let data = DataDir::create_or_open(layout(&under)).expect("made");
    let (ours, other) = ([7; 16], [8; 16]);
    assert_eq!(data.starts(ours).expect("read"), 0);
    data.set_starts(ours, 5).expect("written");
    data.set_starts(other, 1).expect("written");
    assert_eq!(
        data.starts(ours).expect("read"),
        5,
        "another store's catalog was here for a while"
    );
    assert_eq!(data.starts(other).expect("read"), 1);
    for number in 0..20 {
        data.set_starts([100 + number; 16], 1).expect("written");
        data.set_starts(ours, 6).expect("written");
    }
    assert_eq!(data.starts(ours).expect("read"), 6);
    fs::write(data.layout().starts(), "noise").expect("written");
    assert!(data.starts(ours).is_err());
}
