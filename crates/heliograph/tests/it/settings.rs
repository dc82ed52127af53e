//! Settings from a file, the environment and flags, as a whole `heliograph up` takes them.

use std::fs;
use std::process::{Command, Output};

use testkit::Scratch;
use testkit::wait::until;
use tokio::task::spawn_blocking;

use crate::api::http::Http;
use crate::cast::SOON;
use crate::process::{Up, free_port};

/// A command as it is typed, in an environment without settings of ours.
async fn typed(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HELIOGRAPH_")) {
        command.env_remove(name);
    }
    command.args(args).envs(variables.iter().copied()).env_remove("RUST_BACKTRACE");
    spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_tells_up_what_flags_do_not() {
    let mut up = Up::new();
    let (admin, folder) = (format!("127.0.0.1:{}", free_port()), Scratch::new("settings").unwrap());
    let file = folder.join("heliograph.toml");
    // Its own address is said by a flag too, which counts.
    fs::write(
        &file,
        format!("admin = \"{admin}\"\n[gateway.socket]\nlisten = \"127.0.0.1:1\"\n[api]\nbody_bytes_max = 40000\n"),
    )
    .unwrap();
    let mut command = up.command();
    command.arg("--config").arg(&file);
    up.start_with(command).await;
    let http = Http { address: admin, token: None };
    until(SOON, "it is ready", async || http.get("/readyz").await.status == 200).await;
    let address = fs::read_to_string(up.folder().join("address")).unwrap();
    assert_eq!(address, up.listen);
    let (alice, _) = up.register("alice").await;
    for (length, status) in [(30_000, 201), (50_000, 413)] {
        let padded = format!("{:length$}", serde_json::json!({ "kind": "group", "members": [] }).to_string());
        assert_eq!(alice.http.ask("POST", "/v1/chats", &[], Some(padded)).await.status, status, "{length}");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_anything_is_bound_or_made() {
    let folder = Scratch::new("settings").unwrap();
    let (file, data) = (folder.join("heliograph.toml"), folder.join("data"));
    for (content, said) in [
        (
            "\n[gateway.socket]\nlistne = \"127.0.0.1:0\"\n",
            "heliograph.toml:3: there is no setting `gateway.socket.listne`",
        ),
        ("[api]\npassword_jobs = 0\n", "password_jobs must not be 0"),
        ("[event_log]\ndurability = \"replicated\"\n", "event_log.durability"),
        ("external_issuers = \"/nonexistent\"\n", "/nonexistent"),
        ("[gateway.socket.tls]\ncertificate = \"/nonexistent\"\nkey = \"/nonexistent\"\n", "/nonexistent"),
        ("admin = \"here\"\n", "here is no address"),
    ] {
        fs::write(&file, content).unwrap();
        for command in [&["up"][..], &["config", "check"]] {
            let of = ["--config", file.to_str().unwrap(), "--data", data.to_str().unwrap()];
            let output = typed(&[command, &of].concat(), &[]).await;
            assert!(!output.status.success() && output.stdout.is_empty(), "{command:?} {content}: {output:?}");
            assert!(text(&output.stderr).contains(said), "{command:?} {content}: {}", text(&output.stderr));
            assert!(!data.exists(), "{command:?} {content}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_prints_the_defaults_and_what_counts_and_from_where() {
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/heliograph.toml")).unwrap();
    assert!(text(&typed(&["config", "default"], &[]).await.stdout) == example, "infra/heliograph.toml is another");
    let folder = Scratch::new("settings").unwrap();
    let file = folder.join("heliograph.toml");
    fs::write(&file, "[api]\nbody_bytes_max = 70000\n").unwrap();
    let variables = [("HELIOGRAPH_API__TICKET_S", "9"), ("HELIOGRAPH_LISTEN", "127.0.0.1:9")];
    let printed = typed(&["config", "print", "--log", "info", "--config", file.to_str().unwrap()], &variables).await;
    let printed = text(&printed.stdout);
    for line in [
        "log = \"info\"  # --log",
        "gateway.socket.listen = \"127.0.0.1:9\"  # HELIOGRAPH_LISTEN",
        "api.ticket_s = 9  # HELIOGRAPH_API__TICKET_S",
        &format!("api.body_bytes_max = 70000  # {}:2", file.display()),
        "api.drain_ms = 5000  # default",
        "#partitions =  # not set",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "no {line:?} in:\n{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_faces_a_network_without_tls_is_warned_of() {
    for (args, warnings) in [
        (&[][..], 0),
        (&["--listen", "10.0.0.7:7070"], 1),
        (&["--api", "[2001:db8::1]:7080"], 1),
        (&["--listen", "0.0.0.0:7070", "--api", "0.0.0.0:7080"], 2),
    ] {
        let output = typed(&[&["config", "check"], args].concat(), &[]).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert_eq!(text(&output.stderr).matches("faces a network without TLS").count(), warnings, "{args:?}");
    }
    // So does a start; an address of documentation is nobody's, so this one ends there.
    let (folder, nats) = (Scratch::new("settings").unwrap(), testkit::nats::find_binary().unwrap());
    let data = folder.join("data");
    let args = ["up", "--lazy-sync", "--listen", "127.0.0.1:0", "--api", "192.0.2.1:7080", "--data"];
    let variables = [("HELIOGRAPH_NATS_SERVER", nats.to_str().unwrap())];
    let output = typed(&[&args, &[data.to_str().unwrap()][..]].concat(), &variables).await;
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!output.status.success() && said.contains("cannot listen on 192.0.2.1:7080"), "{said}");
    assert!(said.contains("WARN") && said.contains("--api 192.0.2.1:7080 faces a network without TLS"), "{said}");
}
