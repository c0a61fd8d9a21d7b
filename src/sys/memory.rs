//! Files that live in memory only: programs to be started by descriptor, wherever the rootfs is.

use super::{Named, SysResult};
use rustix::fs::{self as rfs, MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use std::fs::File;

/// An empty file in memory that may be executed, mode 0755. `name` is only seen in /proc.
pub fn program(name: &str) -> SysResult<File> {
    let call = || format!("memfd_create(\"{name}\")");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // QUIRK(kernel 6.3): from here on `sysctl vm.memfd_noexec` can make memory files non-executable, unless asked;
    // older kernels do not know the flag and always allow it.
    let file = match rfs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rfs::memfd_create(name, flags),
        other => other,
    }
    .named(call)?;
    rfs::fchmod(&file, Mode::from_raw_mode(0o755)).named(|| format!("fchmod(\"{name}\", 755)"))?;
    Ok(File::from(file))
}

/// Nobody can change the content or the size of a [`program`] any more, not even through its descriptor.
pub fn seal(file: &File) -> SysResult<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rfs::fcntl_add_seals(file, seals).named(|| "fcntl(F_ADD_SEALS)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_sealed_program_cannot_be_changed() {
        let mut file = program("test").unwrap();
        file.write_all(b"content").unwrap();
        seal(&file).unwrap();
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        let refused = Some(Errno::PERM.raw_os_error());
        assert_eq!(errno(file.write_all(b"more")), refused);
        assert_eq!(errno(file.set_len(0)), refused);
        let stat = super::super::fs::fstat(&file).unwrap();
        assert_eq!((stat.mode, stat.size), (0o755, 7));
    }
}
