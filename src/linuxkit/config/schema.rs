//! The fields of `config` as a table: their names, types, and when JSON leaves them out (linuxkit.md §1.2).
//!
//! The order of a table is the order in the JSON. The structures below `mounts`, `resources` and the id mappings are
//! those of the OCI runtime specification; their YAML keys are their JSON keys in lower case.

use std::borrow::Cow;

/// A type.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    /// Least and greatest value.
    Int(i128, i128),
    /// Whatever YAML makes of it.
    Any,
    List(&'static Kind),
    Map(&'static Kind),
    Struct(&'static Struct),
}

/// A structure.
#[derive(Debug)]
pub(super) struct Struct {
    pub(super) fields: &'static [Field],
    /// YAML keys are the names in lower case.
    lower: bool,
    /// A key whose mapping gives `major` and `minor`: in Go they belong to a structure inside this one.
    pub(super) embedded: Option<&'static str>,
}

/// A field: its JSON key, which is its YAML key too unless the structure says otherwise.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) omit: Omit,
}

/// When a field is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Omit {
    /// Never: a field that is not given is written as zero.
    Never,
    /// When it is not given; what is given is written even if it is empty.
    Absent,
    /// When it is not given, or empty.
    Empty,
}

impl Struct {
    /// The YAML key of a field.
    pub(super) fn key(&self, field: &Field) -> Cow<'static, str> {
        if self.lower { field.name.to_ascii_lowercase().into() } else { field.name.into() }
    }
}

impl Kind {
    /// JSON of the value that stands for "nothing given".
    pub(super) fn zero(&self) -> &'static str {
        match self {
            Self::Text => "\"\"",
            Self::Bool => "false",
            Self::Int(..) => "0",
            Self::Any => "null",
            Self::List(_) => "[]",
            Self::Map(_) | Self::Struct(_) => "{}",
        }
    }
}

const fn own(fields: &'static [Field]) -> Struct {
    Struct { fields, lower: false, embedded: None }
}

const fn oci(fields: &'static [Field]) -> Struct {
    Struct { fields, lower: true, embedded: None }
}

/// The OCI structures of a block device: Go's yaml wants `linuxblockiodevice` there.
const fn device(fields: &'static [Field]) -> Struct {
    Struct { fields, lower: true, embedded: Some("linuxblockiodevice") }
}

const fn absent(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, omit: Omit::Absent }
}

const fn empty(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, omit: Omit::Empty }
}

const fn always(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, omit: Omit::Never }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const TEXT_MAP: Kind = Kind::Map(&Kind::Text);
const I64: Kind = Kind::Int(i64::MIN as i128, i64::MAX as i128);
const U64: Kind = Kind::Int(0, u64::MAX as i128);
const U32: Kind = Kind::Int(0, u32::MAX as i128);
const U16: Kind = Kind::Int(0, u16::MAX as i128);

/// The whole of `config`.
pub(super) static IMAGE_CONFIG: Struct = own(&[
    absent("capabilities", TEXTS),
    absent("capabilities.add", TEXTS),
    absent("ambient", TEXTS),
    absent("mounts", MOUNTS),
    absent("binds", TEXTS),
    absent("binds.add", TEXTS),
    absent("devices", Kind::List(&Kind::Struct(&DEVICE))),
    absent("tmpfs", TEXTS),
    absent("command", TEXTS),
    absent("env", TEXTS),
    empty("cwd", Kind::Text),
    empty("net", Kind::Text),
    empty("pid", Kind::Text),
    empty("ipc", Kind::Text),
    empty("uts", Kind::Text),
    empty("userns", Kind::Text),
    empty("hostname", Kind::Text),
    absent("readonly", Kind::Bool),
    absent("maskedPaths", TEXTS),
    absent("readonlyPaths", TEXTS),
    absent("uid", Kind::Any),
    absent("gid", Kind::Any),
    absent("additionalGids", Kind::List(&Kind::Any)),
    absent("noNewPrivileges", Kind::Bool),
    absent("oomScoreAdj", I64),
    absent("rootfsPropagation", Kind::Text),
    absent("cgroupsPath", Kind::Text),
    absent("resources", Kind::Struct(&RESOURCES)),
    absent("sysctl", TEXT_MAP),
    absent("rlimits", TEXTS),
    absent("uidMappings", ID_MAPPINGS),
    absent("gidMappings", ID_MAPPINGS),
    absent("annotations", TEXT_MAP),
    absent("runtime", Kind::Struct(&RUNTIME)),
]);

static DEVICE: Struct = own(&[
    always("path", Kind::Text),
    always("type", Kind::Text),
    always("major", I64),
    always("minor", I64),
    empty("mode", Kind::Text),
]);

static RUNTIME: Struct = own(&[
    absent("cgroups", TEXTS),
    absent("mounts", MOUNTS),
    absent("mkdir", TEXTS),
    absent("interfaces", Kind::List(&Kind::Struct(&INTERFACE))),
    always("bindNS", Kind::Struct(&NAMESPACES)),
    absent("namespace", Kind::Text),
]);

static INTERFACE: Struct = own(&[
    empty("name", Kind::Text),
    empty("add", Kind::Text),
    empty("peer", Kind::Text),
    always("createInRoot", Kind::Bool),
]);

static NAMESPACES: Struct = own(&[
    absent("cgroup", Kind::Text),
    absent("ipc", Kind::Text),
    absent("mnt", Kind::Text),
    absent("net", Kind::Text),
    absent("pid", Kind::Text),
    absent("user", Kind::Text),
    absent("uts", Kind::Text),
]);

const MOUNTS: Kind = Kind::List(&Kind::Struct(&MOUNT));

static MOUNT: Struct = oci(&[
    always("destination", Kind::Text),
    empty("type", Kind::Text),
    empty("source", Kind::Text),
    empty("options", TEXTS),
    empty("uidMappings", ID_MAPPINGS),
    empty("gidMappings", ID_MAPPINGS),
]);

const ID_MAPPINGS: Kind = Kind::List(&Kind::Struct(&ID_MAPPING));

static ID_MAPPING: Struct =
    oci(&[always("containerID", U32), always("hostID", U32), always("size", U32)]);

static RESOURCES: Struct = oci(&[
    empty("devices", Kind::List(&Kind::Struct(&DEVICE_RULE))),
    absent("memory", Kind::Struct(&MEMORY)),
    absent("cpu", Kind::Struct(&CPU)),
    absent("pids", Kind::Struct(&PIDS)),
    absent("blockIO", Kind::Struct(&BLOCK_IO)),
    empty("hugepageLimits", Kind::List(&Kind::Struct(&HUGEPAGE_LIMIT))),
    absent("network", Kind::Struct(&NETWORK)),
    empty("rdma", Kind::Map(&Kind::Struct(&RDMA))),
    empty("unified", TEXT_MAP),
]);

static DEVICE_RULE: Struct = oci(&[
    always("allow", Kind::Bool),
    empty("type", Kind::Text),
    absent("major", I64),
    absent("minor", I64),
    empty("access", Kind::Text),
]);

static MEMORY: Struct = oci(&[
    absent("limit", I64),
    absent("reservation", I64),
    absent("swap", I64),
    absent("kernel", I64),
    absent("kernelTCP", I64),
    absent("swappiness", U64),
    absent("disableOOMKiller", Kind::Bool),
    absent("useHierarchy", Kind::Bool),
    absent("checkBeforeUpdate", Kind::Bool),
]);

static CPU: Struct = oci(&[
    absent("shares", U64),
    absent("quota", I64),
    absent("burst", U64),
    absent("period", U64),
    absent("realtimeRuntime", I64),
    absent("realtimePeriod", U64),
    empty("cpus", Kind::Text),
    empty("mems", Kind::Text),
    absent("idle", I64),
]);

static PIDS: Struct = oci(&[always("limit", I64)]);

static BLOCK_IO: Struct = oci(&[
    absent("weight", U16),
    absent("leafWeight", U16),
    empty("weightDevice", Kind::List(&Kind::Struct(&WEIGHT_DEVICE))),
    empty("throttleReadBpsDevice", THROTTLES),
    empty("throttleWriteBpsDevice", THROTTLES),
    empty("throttleReadIOPSDevice", THROTTLES),
    empty("throttleWriteIOPSDevice", THROTTLES),
]);

static WEIGHT_DEVICE: Struct = device(&[
    always("major", I64),
    always("minor", I64),
    absent("weight", U16),
    absent("leafWeight", U16),
]);

const THROTTLES: Kind = Kind::List(&Kind::Struct(&THROTTLE));

static THROTTLE: Struct =
    device(&[always("major", I64), always("minor", I64), always("rate", U64)]);

static HUGEPAGE_LIMIT: Struct = oci(&[always("pageSize", Kind::Text), always("limit", U64)]);

static NETWORK: Struct =
    oci(&[absent("classID", U32), empty("priorities", Kind::List(&Kind::Struct(&PRIORITY)))]);

static PRIORITY: Struct = oci(&[always("name", Kind::Text), always("priority", U32)]);

static RDMA: Struct = oci(&[absent("hcaHandles", U32), absent("hcaObjects", U32)]);
