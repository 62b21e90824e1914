//! A provider that cannot be reached or does not work: for one call, and for everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Ends::Passes;
use super::{Class, PLACES, hold, one_by_one};
use crate::interrupt::Running;
use crate::project::Events;
use crate::wire::{Reply, Wire, error_with, good, response};

#[test]
fn a_fault_of_the_server_is_tried_again() {
    let failed = |status: &str| error_with(status, "", "server_error", "The server had an error.");
    hold(&[
        Class::new(
            "500",
            failed("500 Internal Server Error"),
            Passes,
            ("server_error", 500, "The server had an error."),
        ),
        Class::new(
            "502 from a proxy",
            response(
                "502 Bad Gateway",
                "content-type: text/html\r\n",
                "<html><head><title>502 Bad Gateway</title></head></html>",
            ),
            Passes,
            (
                "server_error",
                502,
                "the server gives no reason that can be read (content type `text/html`): 502 Bad Gateway",
            ),
        ),
        Class::new(
            "503",
            response("503 Service Unavailable", "", ""),
            Passes,
            ("overloaded", 503, "the server gives no reason"),
        ),
        Class::new(
            "504",
            response("504 Gateway Timeout", "", ""),
            Passes,
            ("server_error", 504, "the server gives no reason"),
        ),
        Class::new(
            "529",
            failed("529 Overloaded"),
            Passes,
            ("overloaded", 529, "The server had an error."),
        ),
        Class::new(
            "408",
            failed("408 Request Timeout"),
            Passes,
            ("server_error", 408, "The server had an error."),
        ),
    ]);
}

/// What holds after every outage: it cost time, and nobody anything else.
fn passed(case: &str, run: &Events, calls: u64) {
    assert_eq!(run.code, Some(0), "{case}: {}", run.summary());
    let told = |event: &str| run.named(event).len();
    assert_eq!((told("outage_began"), told("outage_ended")), (1, 1), "{case}");
    assert_eq!(
        (run.figure("calls.ok"), run.figure("nodes.called")),
        (3, 3),
        "{case}"
    );
    assert_eq!(run.figure("calls.sent"), calls, "{case}");
    assert_eq!(run.figure("tokens.total"), 3 * 120, "{case}: faults cost nothing");
}

/// A server that fails everybody from one call of the persona on, until the run says that it waits.
#[test]
fn an_outage_is_waited_out_and_burns_no_attempt() {
    let failed = |status: &str| error_with(status, "", "server_error", "The server had an error.");
    let classes = [
        ("500 to everything", failed("500 Internal Server Error")),
        (
            "502 to everything",
            response("502 Bad Gateway", "content-type: text/html\r\n", "<html></html>"),
        ),
        ("503 to everything", failed("503 Service Unavailable")),
        ("a close to everything", Vec::new()),
    ];
    for (name, bytes) in classes {
        for (place, _, mark) in PLACES {
            let (down, healed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let server = Wire::scripted(None, {
                let (healed, bytes) = (healed.clone(), bytes.clone());
                move |_, body| {
                    down.fetch_or(body.contains(mark), Ordering::SeqCst);
                    match down.load(Ordering::SeqCst) && !healed.load(Ordering::SeqCst) {
                        true => Reply::Bytes(bytes.clone()),
                        false => Reply::Bytes(good(body)),
                    }
                }
            });
            // Far fewer attempts than an outage has faults.
            let project = one_by_one(1, &server.url()).with("[retry]", "[retry]\nattempts = 2");
            let mut running = Running::start(&project, &[]);
            running.wait_for("outage_began", 1);
            healed.store(true, Ordering::SeqCst);
            let run = running.end();
            passed(&format!("{name}, {place} call"), &run, server.calls());
            assert!(
                server.calls() >= 3 + 8,
                "{name}, {place} call: eight faults in a row are an outage"
            );
        }
    }
}

/// The same where nobody listens: a server that goes away in mid-run and comes back.
#[test]
fn a_refused_connection_is_an_outage_too() {
    for (answered, (place, ..)) in PLACES.into_iter().enumerate() {
        let before = (answered > 0).then(|| {
            Wire::scripted(None, move |_, body| match body.contains(PLACES[answered - 1].2) {
                true => Reply::Last(good(body)),
                false => Reply::Bytes(good(body)),
            })
        });
        let address = before.as_ref().map_or_else(Wire::nowhere, Wire::address);
        let project = one_by_one(1, &format!("http://{address}/v1")).with("[retry]", "[retry]\nattempts = 2");
        let mut running = Running::start(&project, &[]);
        running.wait_for("outage_began", 1);
        let after = Wire::scripted(Some(address), |_, body| Reply::Bytes(good(body)));
        let run = running.end();
        let faults = run.figure("calls.faulted");
        passed(&format!("refused, {place} call"), &run, 3 + faults);
        assert!(faults >= 8, "{place}");
        let calls = (before.map_or(0, |server| server.calls()), after.calls());
        assert_eq!(calls, (answered as u64, 3 - answered as u64), "{place}");
        let cause = run.named("outage_began")[0]["cause"].to_string();
        assert!(cause.contains("refused"), "{place}: {cause}");
    }
}
