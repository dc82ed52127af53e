//! Identity of the host's current boot.
//!
//! M7: under lazy sync a changed boot id without a clean-stop mark means that the broker's last writes may be gone. The
//! composing binary keeps the mark; this module only reads the host.

use std::fs;

/// The host's boot id, where the kernel tells it (Linux).
pub fn host_boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn the_boot_id_stays_the_same_while_the_host_runs() {
        let id = super::host_boot_id().expect("linux tells its boot id");
        assert_eq!(id.len(), 36);
        assert_eq!(super::host_boot_id(), Some(id));
    }
}
