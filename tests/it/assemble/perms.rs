//! `perms` and `owner`: what files look like in the layer, whatever they look like on this machine.

use super::{HEAD, Made, ON_BASE, app, assemble};
use crate::support::World;

/// Mode, owner and names of each file of the layer.
fn looks(made: &Made) -> Vec<String> {
    let look = made.of_top(|entry| {
        let header = entry.header();
        let name = |name: Option<&[u8]>| String::from_utf8(name.unwrap().to_vec()).unwrap();
        format!(
            "{:o} {}:{} {}:{}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            name(header.username_bytes()),
            name(header.groupname_bytes())
        )
    });
    look.into_iter().map(|(path, look)| format!("{path} {look}")).collect()
}

fn source(world: &World) {
    world.file("src/bin/other", "x").file("src/data/a/b", "b");
}

const CONTENTS: &str =
    "contents:\n- dir: src\n- file: {path: /bin/tool, text: tool, mode: '6755'}\n";

#[test]
fn files_without_an_owner_get_the_specs() {
    for world in World::each() {
        source(&world);
        let contents = format!("{CONTENTS}- file: {{path: /own, text: x, uid: 5}}\n");
        let owner = "owner: {uid: 3, gid: 4, uname: joe, gname: staff}\n";
        let made = app(&world, &format!("{HEAD}{owner}{contents}"));
        let wanted = [
            "bin/ 755 3:4 joe:staff",
            "bin/other 644 3:4 joe:staff",
            "bin/tool 6755 3:4 joe:staff",
            "data/ 755 3:4 joe:staff",
            "data/a/ 755 3:4 joe:staff",
            "data/a/b 644 3:4 joe:staff",
            // The name of another number would be wrong.
            "own 644 5:4 :staff",
        ];
        assert_eq!(looks(&made), wanted);
        let plain = app(&world, &format!("{HEAD}{contents}"));
        assert_eq!(looks(&plain)[0], "bin/ 755 0:0 :");
    }
}

#[test]
fn patterns_choose_what_changes_and_later_ones_win() {
    for world in World::each() {
        source(&world);
        let perms = "perms:
- {path: /, regex: '^/bin/', uid: 1, gid: 2, uname: you, gname: g}
- {path: /bin, regex: 'l$', mode: '0711', setuid: keep}
- {path: /bin/other, mode: '4700', gid: 9}
- {path: /data, mode: '0750'}
- {path: /data/a/b, mode: '0600', setuid: drop}
";
        let made = app(&world, &format!("{HEAD}{CONTENTS}{perms}"));
        let wanted = [
            "bin/ 755 0:0 :",
            "bin/other 4700 1:9 you:",
            "bin/tool 6711 1:2 you:g",
            "data/ 750 0:0 :",
            "data/a/ 750 0:0 :",
            "data/a/b 600 0:0 :",
        ];
        assert_eq!(looks(&made), wanted);
        let dropped = "perms: [{path: /bin/tool, mode: '0711'}]\n";
        let made = app(&world, &format!("{HEAD}{CONTENTS}{dropped}"));
        assert_eq!(looks(&made)[2], "bin/tool 711 0:0 :");
    }
}

/// A dot did not match the end of a line in a name. Found by reading: two pattern types were in use.
#[test]
fn a_dot_of_a_pattern_is_any_character() {
    for world in World::each() {
        world.file("src/a\nb", "x");
        let perms = "perms: [{path: /, regex: '^/a.b$', mode: '0600'}]\n";
        let made = app(&world, &format!("{HEAD}contents: [{{dir: src}}]\n{perms}"));
        assert_eq!(looks(&made), ["a\nb 600 0:0 :"]);
    }
}

#[test]
fn attributes_are_written_into_the_layer() {
    for world in World::each() {
        source(&world);
        let perms = "perms:
- {path: /data/a/b, xattrs: {user.text: hi, user.hex: 0x00ff, security.capability: 0sAQAAAgAEAAAAAAAAAAAAAAAAAAA=}}
- {path: /data/a/b, xattrs: {user.text: again}}
";
        let made = app(&world, &format!("{HEAD}contents: [{{dir: src/data, to: /data}}]\n{perms}"));
        let found = made.of_top(|entry| {
            let pairs = entry.pax_extensions().unwrap().into_iter().flatten().map(|pair| {
                let pair = pair.unwrap();
                (pair.key().unwrap().to_owned(), pair.value_bytes().to_vec())
            });
            pairs.collect::<Vec<_>>()
        });
        let capability = [&[1, 0, 0, 2, 0, 4][..], &[0; 14]].concat();
        let wanted = vec![
            ("SCHILY.xattr.security.capability".to_owned(), capability),
            ("SCHILY.xattr.user.hex".to_owned(), vec![0, 0xff]),
            ("SCHILY.xattr.user.text".to_owned(), b"again".to_vec()),
        ];
        assert_eq!(found.last().unwrap(), &("data/a/b".to_owned(), wanted));
    }
}

#[test]
fn directories_of_the_base_change_and_its_files_do_not() {
    for world in World::each() {
        let world = world.with_base();
        let made =
            app(&world, &format!("{ON_BASE}perms: [{{path: /usr, mode: '0700', uid: 5}}]\n"));
        let wanted =
            ["usr dir 700 5:0 0", "usr/share dir 700 5:0 0", "usr/share/doc dir 700 5:0 0"];
        assert_eq!(made.top(), wanted);
        let mut found = String::new();
        for perm in [
            "{path: /etc/passwd, mode: '0600'}",
            "{path: /gone, mode: '0600'}",
            "{path: /usr, regex: nothing, mode: '0600'}",
            "{path: /usr, regex: '(', mode: '0600'}",
            "{path: /usr, mode: 600}",
            "{path: /usr}",
        ] {
            let said = assemble(&world, &format!("{ON_BASE}perms:\n- {perm}\n"), &[]);
            found += &format!("== {perm}\n{}\n", crate::errors::normal(&world, &said));
        }
        crate::errors::transcript("assemble-perms", &found);
    }
}
