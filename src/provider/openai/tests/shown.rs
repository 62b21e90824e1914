//! What every fault has, whatever its kind: a message fit to be shown, the request's name, what
//! `x-should-retry` says.

use std::time::Duration;

use super::{KEY, ended, headers, read, request};
use crate::call::{Fault, FaultKind as Kind, Scope};
use crate::provider::openai::receive::End;
use crate::provider::openai::reply;
use crate::provider::openai::words::Words;

#[test]
fn x_should_retry_decides_between_attempt_and_node() {
    let scope_of = |status, value, body: &str| {
        read(status, &[("x-should-retry", value)], body)
            .unwrap_err()
            .scope
    };
    assert_eq!(scope_of(400, "true", "{}"), Scope::Attempt);
    assert_eq!(scope_of(500, "false", "{}"), Scope::Node);
    assert_eq!(scope_of(400, "false", "{}"), Scope::Node);
    assert_eq!(scope_of(500, "true", "{}"), Scope::Attempt);
    assert_eq!(scope_of(500, "perhaps", "{}"), Scope::Attempt);
    assert_eq!(scope_of(401, "true", "{}"), Scope::Run, "every call would fail");
}

#[test]
fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let location = [("location", "https://login.example.com/start?token=secret")];
        let fault = read(status, &location, "").unwrap_err();
        assert_eq!(
            (fault.kind, fault.scope, fault.http_status),
            (Kind::Redirect, Scope::Run, Some(status))
        );
        assert!(
            fault.message.contains("`https://login.example.com/start`"),
            "{}",
            fault.message
        );
        assert!(!fault.message.contains("token"));
    }
}

#[test]
fn a_body_that_broke_off_leaves_the_status_its_meaning() {
    let broken = |end| {
        let reply = ended(429, headers(&[("retry-after", "5")]), r#"{"error":{"mess"#, end);
        reply::read(reply, &request(), &Words::hiding(None), super::NOW).unwrap_err()
    };
    for end in [
        End::TooLarge,
        End::Broke("it broke".to_owned()),
        End::TimedOut("too slow".to_owned()),
    ] {
        let fault = broken(end);
        assert_eq!(
            (fault.kind, fault.retry_after),
            (Kind::RateLimited, Some(Duration::from_secs(5)))
        );
    }
}

fn message(status: u16, body: &str) -> String {
    read(status, &[], body).unwrap_err().message
}

#[test]
fn what_a_server_says_is_made_harmless() {
    let long = message(
        500,
        &format!(r#"{{"error":{{"message":"{}"}}}}"#, "ä".repeat(5000)),
    );
    assert_eq!(long.chars().count(), 300);
    let wild = message(500, r#"{"error":{"message":"a\u001b[2J\r\nb\u202e\u0000c"}}"#);
    assert_eq!(wild, "a [2J b c");
    let html = message(502, &format!("<html>{}</html>", "<p>\u{1b}[31m".repeat(500)));
    assert!(html.chars().count() < 300 && !html.contains('\u{1b}'), "{html}");
}

#[test]
fn the_key_is_never_in_a_fault() {
    let echo = |body: String| read(400, &[("x-request-id", KEY), ("content-type", KEY)], body).unwrap_err();
    for body in [
        format!(r#"{{"error":{{"message":"bad key {KEY}!"}}}}"#),
        format!(r#"{{"error":{{"code":"{KEY}"}}}}"#),
        format!(r#"{{"error":{{"message":"{}{KEY}"}}}}"#, "x".repeat(290)),
        format!("<title>{KEY}</title>"),
        format!("Bearer {KEY}"),
        KEY.to_owned(),
    ] {
        let fault: Fault = echo(body);
        assert!(!format!("{fault:?}").contains(KEY), "{fault:?}");
        assert_eq!(fault.request_id.as_deref(), Some("•••"));
    }
    let redirected = read(302, &[("location", &format!("https://{KEY}.example/{KEY}"))], "").unwrap_err();
    assert!(!redirected.message.contains(KEY), "{}", redirected.message);
}

#[test]
fn the_request_has_a_name_for_support() {
    let id = |pairs: &[(&str, &str)], body: &str| read(500, pairs, body).unwrap_err().request_id;
    assert_eq!(
        id(&[("x-request-id", "req_a"), ("request-id", "req_b")], "").as_deref(),
        Some("req_a")
    );
    assert_eq!(id(&[("request-id", "req_b")], "").as_deref(), Some("req_b"));
    assert_eq!(
        id(
            &[],
            r#"{"type":"error","error":{"message":"m"},"request_id":"req_c"}"#
        )
        .as_deref(),
        Some("req_c")
    );
    assert_eq!(id(&[("x-request-id", "")], ""), None);
}
