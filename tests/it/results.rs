//! What a build leaves: outputs that are no ordinary files, and the times in a config.

use crate::support::{World, base};
use std::os::unix::fs::FileTypeExt;

/// The file was renamed over whatever had its name: a build to /dev/null as root replaced the device. Found by trying.
#[test]
fn an_output_to_a_pipe_leaves_the_pipe() {
    for world in World::each() {
        let world = world.with_base();
        world.file("Dockerfile", "FROM base\nRUN echo 1 > /f\n");
        let script = "mkfifo out/pipe; cat out/pipe > out/tar & exec 3>out/pipe\n\
                      \"$0\" build -q -o type=tar,dest=out/pipe context; code=$?; exec 3>&-; wait; exit $code";
        let said = world.command("sh").args(["-c", script]).arg(crate::support::program()).output();
        let said = said.unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let pipe = std::fs::symlink_metadata(world.path("out/pipe")).unwrap();
        assert!(pipe.file_type().is_fifo());
        let listing = base::list_tar(&std::fs::read(world.path("out/tar")).unwrap());
        assert!(listing.iter().any(|line| line == "f file 644 0:0 2"), "{listing:#?}");
    }
}

/// File times followed an epoch that an ARG before the first FROM gives, the config did not. Found in review.
#[test]
fn an_epoch_from_an_arg_reaches_the_config() {
    let world = World::new().with_base();
    world.build("ARG SOURCE_DATE_EPOCH=1700000000\nFROM base\nRUN true\n", &["-t", "app"]).ok();
    assert_eq!(world.config("app")["created"], "2023-11-14T22:13:20Z");
}
