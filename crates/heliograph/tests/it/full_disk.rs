//! The broker's disk is full for a while; the store's is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::statvfs;
use testkit::wait::until;

use crate::cast::SOON;
use crate::process::Up;

/// What the streams of two partitions reserve is below three quarters of it. It is memory only as far as it is used.
const BYTES: u64 = 2 << 30;

/// A mounted tmpfs, gone with this.
struct Disk(PathBuf);

impl Disk {
    /// None where nothing can be mounted.
    fn over(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        mount(&format!("size={BYTES},mode=0700"), folder).then(|| Self(folder.to_owned()))
    }

    /// Takes away what nobody uses.
    fn fill(&self) {
        until_true(|| {
            let disk = statvfs(&self.0).unwrap();
            let used = (disk.blocks() - disk.blocks_free()) * disk.fragment_size();
            mount(&format!("remount,size={used}"), &self.0)
        });
    }

    fn free(&self) {
        assert!(mount(&format!("remount,size={BYTES}"), &self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the broker may be on its way out.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(options: &str, folder: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "heliograph-test"]).arg(folder);
    mount.output().is_ok_and(|output| output.status.success())
}

/// What is used grows between the look and the mount; it cannot for long.
fn until_true(mut is_so: impl FnMut() -> bool) {
    assert!((0..100).any(|_| is_so()), "in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_was_full_takes_sends_again_once_there_is_room() {
    let mut up = Up::new();
    let Some(disk) = Disk::over(&up.folder().join("broker")) else {
        eprintln!("not run: it takes somebody who may mount a tmpfs");
        return;
    };
    up.start().await;
    let (alice, _) = up.register("alice").await;
    let chat = alice.group(&[]).await;
    let mut stored = vec![alice.say(&chat, "before", "k-before").await.body["seq"].as_u64().unwrap()];
    let before = up.broker().unwrap();
    disk.fill();
    let mut count = 0;
    let refused = until(SOON, "a send to be refused", async || {
        count += 1;
        let key = format!("k-{count}");
        let answer = alice.say(&chat, &"x".repeat(1 << 12), &key).await;
        stored.extend(answer.body["seq"].as_u64());
        (answer.status != 201).then_some((key, answer))
    })
    .await;
    assert!([202, 503].contains(&refused.1.status), "{refused:?}");
    disk.free();
    let taken = until(SOON, "the same send to be taken", async || {
        let answer = alice.say(&chat, &"x".repeat(1 << 12), &refused.0).await;
        answer.body["seq"].as_u64()
    })
    .await;
    stored.push(taken);
    assert_eq!(stored, (2..).take(stored.len()).collect::<Vec<u64>>(), "no hole, no double");
    assert_ne!(up.broker().unwrap(), before, "the broker was started anew");
    up.stop().await;
}
