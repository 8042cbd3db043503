//! A trace of this kernel goes to a message stream, in the strict sandbox, and is read back.

use execpath_tests::{
    binary::run,
    nats::{Server, is_installed},
};

#[test]
fn trace_reaches_the_stream_and_is_read_back() {
    if !is_installed() {
        return;
    }
    let server = Server::start("authorization { token: \"s3cret\" }");
    let address = server.address("lab").replace("//", "//s3cret@");
    let recorded = run(["record", &address, "--apiserver-port", "1", "--duration", "2s"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    assert!(recorded.stderr.contains("recorded: "), "{}", recorded.stderr);
    assert!(!recorded.stderr.contains("never reached"), "{}", recorded.stderr);
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.jsonl");
    let read = run(["record".as_ref(), copy.as_os_str(), "--from".as_ref(), address.as_ref()]);
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    assert!(read.stderr.contains(" 1 host heard in "), "{}", read.stderr);
    let text = std::fs::read_to_string(copy).expect("the copy");
    assert!(text.lines().count() > 10 && text.contains("\"tick\"") && text.contains("\"stopped\""), "{text}");
    // Neither stream nor messages have the token.
    let all = [&text, &recorded.stderr, &read.stderr];
    assert!(all.iter().all(|text| !text.contains("s3cret")), "{all:?}");
}
