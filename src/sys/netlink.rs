//! Routes that lead nowhere, by the kernel's rtnetlink.

use super::{Named, SysResult};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType};
use std::net::IpAddr;

// Of linux/netlink.h and linux/rtnetlink.h.
const NEW_ROUTE: u16 = 24;
const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
const ERROR: u16 = 2;
const MAIN_TABLE: u8 = 254;
const BY_BOOT: u8 = 3;
const UNREACHABLE: u8 = 7;
const DESTINATION: u16 = 1;

/// In this network namespace packets to `address/bits` are refused at once.
pub fn refuse(address: IpAddr, bits: u8) -> SysResult<()> {
    let call = || format!("rtnetlink(unreachable {address}/{bits})");
    let socket = net::socket(AddressFamily::NETLINK, SocketType::RAW, None).named(call)?;
    net::send(&socket, &message(address, bits), SendFlags::empty()).named(call)?;
    let mut answer = [0_u8; 512];
    let (_, length) = net::recv(&socket, &mut answer, RecvFlags::empty()).named(call)?;
    match error_of(&answer[..length.min(answer.len())]) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(-number)).named(call),
        None => Err(Errno::IO).named(call),
    }
}

fn message(address: IpAddr, bits: u8) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    };
    let attribute = 4 + bytes.len() as u16;
    let length = 16 + 12 + u32::from(attribute);
    let mut out = Vec::new();
    out.extend(length.to_ne_bytes());
    out.extend(NEW_ROUTE.to_ne_bytes());
    out.extend(REQUEST_ACK_CREATE.to_ne_bytes());
    out.extend(1_u32.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    // Source length and type of service are zero, and so is the scope: everywhere.
    out.extend([family, bits, 0, 0, MAIN_TABLE, BY_BOOT, 0, UNREACHABLE]);
    out.extend(0_u32.to_ne_bytes());
    out.extend(attribute.to_ne_bytes());
    out.extend(DESTINATION.to_ne_bytes());
    out.extend(bytes);
    out
}

/// The error number in an answer; 0 is success.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ERROR).then_some(number)
}
