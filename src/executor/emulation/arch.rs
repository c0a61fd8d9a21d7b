//! The architectures that a step can be run for: what they are called, and how their programs look.
//!
//! One table, [`ARCHITECTURES`]; nothing else in this room spells a machine number or a name of qemu's. Linux only.
//! Variants (`arm/v6`, `amd64/v3`) are no entries of their own: the ELF header does not tell them and one qemu runs
//! them all.

use super::machine_code::{self, Code};
use crate::oci::platform::Platform;

/// EI_CLASS of an ELF file: the size of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// ELFCLASS32.
    Elf32 = 1,
    /// ELFCLASS64.
    Elf64 = 2,
}

/// EI_DATA of an ELF file: the order of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// ELFDATA2LSB.
    Little = 1,
    /// ELFDATA2MSB.
    Big = 2,
}

/// An architecture of Linux.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// GOARCH, the image specification's name.
    pub goarch: &'static str,
    /// qemu's name, as in `qemu-NAME-static`.
    pub qemu: &'static str,
    /// Fedora's package of the static qemu; Debian has one for all, [`DEBIAN_PACKAGE`].
    pub fedora_package: &'static str,
    /// Size of words.
    pub class: Class,
    /// Order of bytes.
    pub data: Data,
    /// `e_machine`.
    pub machine: u16,
    /// `e_flags` of a usual program.
    pub flags: u32,
    /// GOARCH of hosts whose kernel can run its programs without help, if built so and if the processor can.
    pub compat_of: &'static [&'static str],
    /// The probe program.
    pub probe: Code,
}

/// Debian's package of every static qemu.
pub const DEBIAN_PACKAGE: &str = "qemu-user-static";

/// All that are known.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        goarch: "amd64",
        qemu: "x86_64",
        fedora_package: "qemu-user-static-x86",
        class: Class::Elf64,
        data: Data::Little,
        machine: 62,
        flags: 0,
        compat_of: &[],
        probe: machine_code::AMD64,
    },
    Architecture {
        goarch: "386",
        qemu: "i386",
        fedora_package: "qemu-user-static-x86",
        class: Class::Elf32,
        data: Data::Little,
        machine: 3,
        flags: 0,
        compat_of: &["amd64"],
        probe: machine_code::I386,
    },
    Architecture {
        goarch: "arm64",
        qemu: "aarch64",
        fedora_package: "qemu-user-static-aarch64",
        class: Class::Elf64,
        data: Data::Little,
        machine: 183,
        flags: 0,
        compat_of: &[],
        probe: machine_code::ARM64,
    },
    Architecture {
        goarch: "arm",
        qemu: "arm",
        fedora_package: "qemu-user-static-arm",
        class: Class::Elf32,
        data: Data::Little,
        machine: 40,
        // EABI version 5, soft-float calls: any processor may run it.
        flags: 0x0500_0200,
        compat_of: &["arm64"],
        probe: machine_code::ARM,
    },
    Architecture {
        goarch: "s390x",
        qemu: "s390x",
        fedora_package: "qemu-user-static-s390x",
        class: Class::Elf64,
        data: Data::Big,
        machine: 22,
        flags: 0,
        compat_of: &[],
        probe: machine_code::S390X,
    },
    Architecture {
        goarch: "ppc64le",
        qemu: "ppc64le",
        fedora_package: "qemu-user-static-ppc",
        class: Class::Elf64,
        data: Data::Little,
        machine: 21,
        // ELFv2: the entry point is code, not a function descriptor.
        flags: 2,
        compat_of: &[],
        probe: machine_code::PPC64LE,
    },
    Architecture {
        goarch: "riscv64",
        qemu: "riscv64",
        fedora_package: "qemu-user-static-riscv",
        class: Class::Elf64,
        data: Data::Little,
        machine: 243,
        // Compressed instructions, floating point in double registers.
        flags: 5,
        compat_of: &[],
        probe: machine_code::RISCV64,
    },
    Architecture {
        goarch: "loong64",
        qemu: "loongarch64",
        fedora_package: "qemu-user-static-loongarch64",
        class: Class::Elf64,
        data: Data::Little,
        machine: 258,
        // Object format version 1, floating point in double registers.
        flags: 0x43,
        compat_of: &[],
        probe: machine_code::LOONG64,
    },
    Architecture {
        goarch: "mips64le",
        qemu: "mips64el",
        fedora_package: "qemu-user-static-mips",
        class: Class::Elf64,
        data: Data::Little,
        machine: 8,
        // mips64r2; no ABI bit is n64.
        flags: 0x8000_0000,
        compat_of: &[],
        probe: machine_code::MIPS64LE,
    },
];

/// The architecture that a platform needs, whatever its variant. `None` for one that is not Linux or not known.
pub fn of(platform: &Platform) -> Option<&'static Architecture> {
    if platform.os != "linux" {
        return None;
    }
    by_name(&platform.architecture)
}

/// The architecture of this GOARCH.
pub fn by_name(goarch: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|arch| arch.goarch == goarch)
}

impl Architecture {
    /// That of this program. `None` on a machine that the table does not know.
    pub fn host() -> Option<&'static Self> {
        of(&Platform::host())
    }

    /// The architecture whose programs begin so.
    pub fn of_header(header: &[u8]) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|arch| arch.is_header(header))
    }

    /// True when a file that begins so is an ELF file of this architecture, of any type.
    pub fn is_header(&self, header: &[u8]) -> bool {
        let own = self.header();
        header.len() >= own.len() && header[..7] == own[..7] && header[18..20] == own[18..20]
    }

    /// The first 20 bytes of an executable: `e_ident`, `e_type`, `e_machine`.
    pub fn header(&self) -> [u8; 20] {
        let mut header = [0; 20];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = self.class as u8;
        header[5] = self.data as u8;
        // EI_VERSION; EI_OSABI and the padding stay 0.
        header[6] = 1;
        header[16..18].copy_from_slice(&self.u16(2));
        header[18..20].copy_from_slice(&self.u16(self.machine));
        header
    }

    /// File names of its emulator, best first: the plain name is often the dynamically linked one.
    pub fn program_names(&self) -> [String; 2] {
        [format!("qemu-{}-static", self.qemu), format!("qemu-{}", self.qemu)]
    }

    /// In this architecture's byte order.
    pub(super) fn u16(&self, value: u16) -> [u8; 2] {
        match self.data {
            Data::Little => value.to_le_bytes(),
            Data::Big => value.to_be_bytes(),
        }
    }

    /// In this architecture's byte order.
    pub(super) fn u32(&self, value: u32) -> [u8; 4] {
        match self.data {
            Data::Little => value.to_le_bytes(),
            Data::Big => value.to_be_bytes(),
        }
    }

    /// An address or offset, in this architecture's size and byte order.
    pub(super) fn word(&self, value: u32) -> Vec<u8> {
        let wide = u64::from(value);
        match (self.class, self.data) {
            (Class::Elf32, _) => self.u32(value).to_vec(),
            (Class::Elf64, Data::Little) => wide.to_le_bytes().to_vec(),
            (Class::Elf64, Data::Big) => wide.to_be_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_find_their_architecture_whatever_the_variant() {
        let table = [
            ("linux/amd64", Some("amd64")),
            ("linux/amd64/v3", Some("amd64")),
            ("linux/arm/v5", Some("arm")),
            ("linux/arm/v6", Some("arm")),
            ("linux/arm/v7", Some("arm")),
            ("linux/arm64/v9", Some("arm64")),
            ("linux/386", Some("386")),
            ("linux/s390x", Some("s390x")),
            ("linux/ppc64le", Some("ppc64le")),
            ("linux/riscv64", Some("riscv64")),
            ("linux/loong64", Some("loong64")),
            ("linux/mips64le", Some("mips64le")),
            ("linux/ppc64", None),
            ("linux/wasm", None),
            ("freebsd/amd64", None),
            ("windows/amd64", None),
        ];
        for (platform, goarch) in table {
            let found = of(&Platform::parse(platform).unwrap()).map(|arch| arch.goarch);
            assert_eq!(found, goarch, "{platform}");
        }
    }

    #[test]
    fn headers_are_told_apart() {
        for arch in ARCHITECTURES {
            let found = Architecture::of_header(&arch.header()).map(|found| found.goarch);
            assert_eq!(found, Some(arch.goarch));
        }
        let s390x = of(&Platform::new("linux", "s390x", "")).unwrap().header();
        assert_eq!(s390x, *b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16");
        let loong64 = of(&Platform::new("linux", "loong64", "")).unwrap().header();
        assert_eq!(loong64, *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x02\x01");
        assert!(Architecture::of_header(&s390x[..19]).is_none());
        assert!(Architecture::of_header(b"#!/bin/sh\necho no program\n").is_none());
    }

    #[test]
    fn names_of_emulators() {
        let arm64 = of(&Platform::new("linux", "arm64", "")).unwrap();
        assert_eq!(arm64.program_names(), ["qemu-aarch64-static", "qemu-aarch64"]);
    }

    #[test]
    fn hosts_that_run_other_programs_are_in_the_table() {
        let hosts = ARCHITECTURES.iter().flat_map(|arch| arch.compat_of);
        for host in hosts {
            assert!(ARCHITECTURES.iter().any(|arch| arch.goarch == *host), "{host}");
        }
    }
}
