//! A `/proc/cpuinfo` for programs that run emulated.
//!
//! The kernel's file describes the processor of this machine, and scripts that read it choose the wrong code or give
//! up. The text here has the form of the emulated architecture's kernel and names what qemu's user mode emulates
//! when it is not told otherwise (AT_HWCAP under qemu 7.2; newer ones emulate more, not less). Frequencies are made up.
//! Newer versions of qemu answer for some architectures themselves, and then this text is never seen.

use super::arch::Architecture;

/// The file for so many processors, at least one. `None` for x86: an x86 machine's own file suits its 32-bit programs,
/// and on others nothing is made up for it.
pub fn text(arch: &Architecture, processors: usize) -> Option<String> {
    let processors = 0..processors.max(1);
    let each = |block: &dyn Fn(usize) -> String| processors.clone().map(block).collect::<String>();
    Some(match arch.goarch {
        "arm64" => each(&arm64),
        "arm" => each(&arm) + ARM_MACHINE,
        "s390x" => s390x_head(processors.len()) + &each(&s390x_line) + &each(&s390x),
        "ppc64le" => each(&ppc64le) + PPC64LE_MACHINE,
        "riscv64" => each(&riscv64),
        "loong64" => LOONG64_MACHINE.to_owned() + &each(&loong64),
        "mips64le" => MIPS64LE_MACHINE.to_owned() + &each(&mips64le),
        _ => return None,
    })
}

fn arm64(processor: usize) -> String {
    format!(
        "processor\t: {processor}\n\
         BogoMIPS\t: 100.00\n\
         Features\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop \
         sha3 sm3 sm4 asimddp sha512 sve asimdfhm\n\
         CPU implementer\t: 0x00\n\
         CPU architecture: 8\n\
         CPU variant\t: 0x0\n\
         CPU part\t: 0x051\n\
         CPU revision\t: 0\n\n"
    )
}

fn arm(processor: usize) -> String {
    format!(
        "processor\t: {processor}\n\
         model name\t: ARMv7 Processor rev 1 (v7l)\n\
         BogoMIPS\t: 100.00\n\
         Features\t: swp half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae aes pmull sha1 \
         sha2 crc32\n\
         CPU implementer\t: 0x41\n\
         CPU architecture: 7\n\
         CPU variant\t: 0x2\n\
         CPU part\t: 0xc0f\n\
         CPU revision\t: 1\n\n"
    )
}

const ARM_MACHINE: &str = "Hardware\t: Generic DT based system\n\
    Revision\t: 0000\n\
    Serial\t\t: 0000000000000000\n";

fn s390x_head(processors: usize) -> String {
    format!(
        "vendor_id       : IBM/S390\n\
         # processors    : {processors}\n\
         bogomips per cpu: 13370.00\n\
         max thread id   : 0\n\
         features\t: esan3 zarch stfle msa ldisp eimm etf3eh highgprs vx vxe\n"
    )
}

fn s390x_line(processor: usize) -> String {
    format!("processor {processor}: version = FF,  identification = 000000,  machine = 3906\n")
}

fn s390x(processor: usize) -> String {
    format!(
        "\ncpu number      : {processor}\n\
         version         : FF\n\
         identification  : 000000\n\
         machine         : 3906\n"
    )
}

fn ppc64le(processor: usize) -> String {
    format!(
        "processor\t: {processor}\n\
         cpu\t\t: POWER9 (architected), altivec supported\n\
         clock\t\t: 1000.000000MHz\n\
         revision\t: 2.0 (pvr 004e 1200)\n\n"
    )
}

const PPC64LE_MACHINE: &str = "timebase\t: 512000000\n\
    platform\t: pSeries\n\
    model\t\t: IBM pSeries (emulated by qemu)\n\
    machine\t\t: CHRP IBM pSeries (emulated by qemu)\n\
    MMU\t\t: Radix\n";

fn riscv64(processor: usize) -> String {
    format!(
        "processor\t: {processor}\n\
         hart\t\t: {processor}\n\
         isa\t\t: rv64imafdc_zicsr_zifencei\n\
         mmu\t\t: sv39\n\
         mvendorid\t: 0x0\n\
         marchid\t\t: 0x0\n\
         mimpid\t\t: 0x0\n\n"
    )
}

const LOONG64_MACHINE: &str = "system type\t\t: generic-loongson-machine\n\n";

fn loong64(processor: usize) -> String {
    format!(
        "processor\t\t: {processor}\n\
         package\t\t\t: 0\n\
         core\t\t\t: {processor}\n\
         global_id\t\t: {processor}\n\
         CPU Family\t\t: Loongson-64bit\n\
         Model Name\t\t: Loongson-3A5000\n\
         CPU Revision\t\t: 0x10\n\
         FPU Revision\t\t: 0x00\n\
         CPU MHz\t\t\t: 2000.00\n\
         BogoMIPS\t\t: 4000.00\n\
         TLB Entries\t\t: 2112\n\
         Address Sizes\t\t: 48 bits physical, 48 bits virtual\n\
         ISA\t\t\t: loongarch32r loongarch32s loongarch64\n\
         Features\t\t: cpucfg lam ual fpu crc32\n\
         Hardware Watchpoint\t: no\n\n"
    )
}

const MIPS64LE_MACHINE: &str = "system type\t\t: MIPS Malta\n\
    machine\t\t\t: mti,malta\n";

fn mips64le(processor: usize) -> String {
    format!(
        "processor\t\t: {processor}\n\
         cpu model\t\t: MIPS 5KE V0.0  FPU V0.0\n\
         BogoMIPS\t\t: 100.00\n\
         wait instruction\t: yes\n\
         microsecond timers\t: yes\n\
         tlb_entries\t\t: 32\n\
         extra interrupt vector\t: yes\n\
         hardware watchpoint\t: no\n\
         isa\t\t\t: mips1 mips2 mips3 mips4 mips5 mips32r1 mips32r2 mips64r1 mips64r2\n\
         ASEs implemented\t:\n\
         shadow register sets\t: 1\n\
         kscratch registers\t: 0\n\
         package\t\t\t: 0\n\
         core\t\t\t: {processor}\n\
         VCED exceptions\t\t: not available\n\
         VCEI exceptions\t\t: not available\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::arch::{self, ARCHITECTURES};
    use super::*;
    use crate::oci::platform::Platform;

    fn of(goarch: &str, processors: usize) -> Option<String> {
        text(arch::of(&Platform::new("linux", goarch, "")).unwrap(), processors)
    }

    #[test]
    fn every_architecture_but_x86_has_one_and_counts_its_processors() {
        for arch in ARCHITECTURES {
            let Some(found) = text(arch, 3) else {
                assert!(["amd64", "386"].contains(&arch.goarch), "{}", arch.goarch);
                continue;
            };
            // How getconf, nproc's fallback and many scripts count.
            let lines = |words: &str| found.lines().filter(|line| line.starts_with(words)).count();
            assert_eq!(lines("processor"), 3, "{}", arch.goarch);
            assert!(found.contains(": 2\n"), "{found}");
            assert_eq!(text(arch, 0), text(arch, 1), "{}", arch.goarch);
            let well_formed = |line: &str| line.is_empty() || line.contains(':');
            assert!(found.lines().all(well_formed) && found.ends_with('\n'), "{found}");
            assert!(found.lines().all(|line| line.trim_end() == line), "{found}");
        }
    }

    #[test]
    fn s390x_has_its_table_before_the_processors() {
        assert_eq!(
            of("s390x", 2).unwrap(),
            "vendor_id       : IBM/S390\n\
             # processors    : 2\n\
             bogomips per cpu: 13370.00\n\
             max thread id   : 0\n\
             features\t: esan3 zarch stfle msa ldisp eimm etf3eh highgprs vx vxe\n\
             processor 0: version = FF,  identification = 000000,  machine = 3906\n\
             processor 1: version = FF,  identification = 000000,  machine = 3906\n\
             \n\
             cpu number      : 0\n\
             version         : FF\n\
             identification  : 000000\n\
             machine         : 3906\n\
             \n\
             cpu number      : 1\n\
             version         : FF\n\
             identification  : 000000\n\
             machine         : 3906\n"
        );
    }

    #[test]
    fn ppc64le_has_its_machine_behind_the_processors() {
        assert_eq!(
            of("ppc64le", 1).unwrap(),
            "processor\t: 0\n\
             cpu\t\t: POWER9 (architected), altivec supported\n\
             clock\t\t: 1000.000000MHz\n\
             revision\t: 2.0 (pvr 004e 1200)\n\
             \n\
             timebase\t: 512000000\n\
             platform\t: pSeries\n\
             model\t\t: IBM pSeries (emulated by qemu)\n\
             machine\t\t: CHRP IBM pSeries (emulated by qemu)\n\
             MMU\t\t: Radix\n"
        );
    }
}
