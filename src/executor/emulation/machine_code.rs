//! The probe program of each architecture, assembled by hand.
//!
//! All are the same program: `exit((first byte of argv[0]) + geteuid())`. At entry the stack pointer of every
//! architecture points to argc, and the pointer to `argv[0]` is the next word. The system call clobbers no register
//! that is used after it. [`super::probe_elf`] wraps it into an executable and says what the exit codes mean.

/// Machine code, as it is usually written down.
#[derive(Clone, Copy, Debug)]
pub enum Code {
    /// Instructions of 32 bits, little endian.
    Words(&'static [u32]),
    /// Instructions of any size.
    Bytes(&'static [u8]),
}

impl Code {
    /// As it lies in memory.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Words(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Self::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

pub(super) const AMD64: Code = Code::Bytes(&[
    0xb8, 0x6b, 0x00, 0x00, 0x00, // mov eax, 107 (geteuid)
    0x0f, 0x05, // syscall
    0x48, 0x8b, 0x4c, 0x24, 0x08, // mov rcx, [rsp + 8]
    0x0f, 0xb6, 0x39, // movzx edi, byte [rcx]
    0x01, 0xc7, // add edi, eax
    0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, 231 (exit_group)
    0x0f, 0x05, // syscall
]);

pub(super) const I386: Code = Code::Bytes(&[
    0xb8, 0xc9, 0x00, 0x00, 0x00, // mov eax, 201 (geteuid32)
    0xcd, 0x80, // int 0x80
    0x8b, 0x4c, 0x24, 0x04, // mov ecx, [esp + 4]
    0x0f, 0xb6, 0x19, // movzx ebx, byte [ecx]
    0x01, 0xc3, // add ebx, eax
    0xb8, 0xfc, 0x00, 0x00, 0x00, // mov eax, 252 (exit_group)
    0xcd, 0x80, // int 0x80
]);

pub(super) const ARM64: Code = Code::Words(&[
    0xd280_15e8, // mov x8, #175 (geteuid)
    0xd400_0001, // svc #0
    0xf940_07e1, // ldr x1, [sp, #8]
    0x3940_0021, // ldrb w1, [x1]
    0x0b01_0000, // add w0, w0, w1
    0xd280_0bc8, // mov x8, #94 (exit_group)
    0xd400_0001, // svc #0
]);

/// ARM state, ARMv4 instructions.
pub(super) const ARM: Code = Code::Words(&[
    0xe3a0_70c9, // mov r7, #201 (geteuid32)
    0xef00_0000, // svc 0
    0xe59d_1004, // ldr r1, [sp, #4]
    0xe5d1_1000, // ldrb r1, [r1]
    0xe080_0001, // add r0, r0, r1
    0xe3a0_70f8, // mov r7, #248 (exit_group)
    0xef00_0000, // svc 0
]);

pub(super) const S390X: Code = Code::Bytes(&[
    0x0a, 0xc9, // svc 201 (geteuid)
    0xe3, 0x10, 0xf0, 0x08, 0x00, 0x04, // lg %r1, 8(%r15)
    0xe3, 0x10, 0x10, 0x00, 0x00, 0x90, // llgc %r1, 0(%r1)
    0x1a, 0x21, // ar %r2, %r1
    0x0a, 0xf8, // svc 248 (exit_group)
]);

pub(super) const PPC64LE: Code = Code::Words(&[
    0x3800_0031, // li r0, 49 (geteuid)
    0x4400_0002, // sc
    0xe881_0008, // ld r4, 8(r1)
    0x8884_0000, // lbz r4, 0(r4)
    0x7c63_2214, // add r3, r3, r4
    0x3800_00ea, // li r0, 234 (exit_group)
    0x4400_0002, // sc
]);

pub(super) const RISCV64: Code = Code::Words(&[
    0x0af0_0893, // li a7, 175 (geteuid)
    0x0000_0073, // ecall
    0x0081_3583, // ld a1, 8(sp)
    0x0005_c583, // lbu a1, 0(a1)
    0x00b5_0533, // add a0, a0, a1
    0x05e0_0893, // li a7, 94 (exit_group)
    0x0000_0073, // ecall
]);

pub(super) const LOONG64: Code = Code::Words(&[
    0x0382_bc0b, // ori $a7, $zero, 175 (geteuid)
    0x002b_0000, // syscall 0
    0x28c0_2065, // ld.d $a1, $sp, 8
    0x2a00_00a5, // ld.bu $a1, $a1, 0
    0x0010_9484, // add.d $a0, $a0, $a1
    0x0381_780b, // ori $a7, $zero, 94 (exit_group)
    0x002b_0000, // syscall 0
]);

/// System calls of the n64 convention; no branch, so no delay slot.
pub(super) const MIPS64LE: Code = Code::Words(&[
    0x2402_13f1, // li $v0, 5105 (geteuid)
    0x0000_000c, // syscall
    0xdfa5_0008, // ld $a1, 8($sp)
    0x90a5_0000, // lbu $a1, 0($a1)
    0x0045_202d, // daddu $a0, $v0, $a1
    0x2402_1455, // li $v0, 5205 (exit_group)
    0x0000_000c, // syscall
]);
