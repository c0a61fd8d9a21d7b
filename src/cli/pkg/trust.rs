//! Whether a verb of LinuxKit asks for signatures: its flags first, then the environment and LinuxKit's settings.

use super::args::{CommonSwitches, PkgCommon};
use super::net_config;
use crate::cli::environment::Environment;
use crate::cli::trust::{Asked, linuxkit_command};
use crate::error::Result;
use crate::net::NetConfig;

/// What the flags of a verb say of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// `--disable-content-trust` or `--sign=false`, which win.
    Off,
    /// `--enable-content-trust`.
    On,
    /// Nothing.
    Unsaid,
}

impl Trust {
    /// `sign` is that of `--sign`, where a verb has it.
    pub(super) fn of(switches: CommonSwitches, sign: bool) -> Self {
        match (switches.disable_content_trust || !sign, switches.enable_content_trust) {
            (true, _) => Self::Off,
            (false, true) => Self::On,
            (false, false) => Self::Unsaid,
        }
    }
}

/// The way to registries, with what asks for signatures.
pub(super) fn trusted(common: &PkgCommon, environment: &Environment) -> Result<NetConfig> {
    let asked = asked(Trust::of(common.switches, true), environment)?;
    Ok(asked.put_into(net_config(&common.net, environment)?))
}

/// What asks for signatures, LinuxKit's own settings included.
pub(super) fn asked(trust: Trust, environment: &Environment) -> Result<Asked> {
    let asked = Asked::of((trust == Trust::Off).then_some(true), environment);
    let push = match (trust, asked.push) {
        (Trust::On, _) => Some("--enable-content-trust".to_owned()),
        (Trust::Unsaid, None) => linuxkit_command(environment)?,
        (_, push) => push,
    };
    Ok(Asked { pull: asked.pull, push })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--enable-content-trust` counted for builds alone, and `--sign=false` not for what they pull; found by reading.
    #[test]
    fn flags_decide_about_signatures_before_the_environment_does() {
        let who = |disable, enable, sign| {
            let switches = CommonSwitches {
                disable_content_trust: disable,
                enable_content_trust: enable,
                ..CommonSwitches::default()
            };
            let environment = Environment::of(&[("DOCKER_CONTENT_TRUST", "1")]);
            let asked = asked(Trust::of(switches, sign), &environment).unwrap();
            [asked.pull.unwrap_or_default(), asked.push.unwrap_or_default()]
        };
        let (variable, flag) = ("DOCKER_CONTENT_TRUST=1", "--enable-content-trust");
        assert_eq!(who(false, false, true), [variable, variable]);
        assert_eq!(who(false, true, true), [variable, flag]);
        assert_eq!(who(true, true, true), ["", ""]);
        assert_eq!(who(true, false, true), ["", ""]);
        assert_eq!(who(false, true, false), ["", ""]);
    }
}
