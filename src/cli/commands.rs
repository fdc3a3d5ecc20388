//! What commands and options there are. One table: the parser and every help text come from it.

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// One word, or two: `config check`.
    pub name: &'static str,
    /// Its operands, as the usage line shows them.
    pub operands: &'static str,
    /// How many operands it takes, at least and at most.
    pub count: (usize, usize),
    /// Options it takes, by their names in [`OPTIONS`].
    pub options: &'static [&'static str],
    /// One line for the list of commands.
    pub summary: &'static str,
    /// What its own help says beyond that.
    pub text: &'static str,
}

/// An option: its name, the word for its value if it has one, and its help.
pub type Opt = (&'static str, Option<&'static str>, &'static str);

const MANY: usize = usize::MAX;

/// All options. One name means one thing in every command.
pub const OPTIONS: &[Opt] = &[
    (
        "config",
        Some("FILE"),
        if cfg!(feature = "yaml") {
            "configuration (default: ~/.echomesh/config.yaml, else /etc/echomesh/config.yaml)"
        } else {
            "configuration (default: /etc/config/echomesh, else ~/.echomesh/config.json, else /etc/echomesh/config.json)"
        },
    ),
    (
        "run-dir",
        Some("DIR"),
        "directory of api.sock and api.token (default: /var/run/echomesh, else $XDG_RUNTIME_DIR/echomesh)",
    ),
    ("state-dir", Some("DIR"), "directory of what outlives the process (default: beside the configuration)"),
    (
        "uci",
        None,
        "take the configuration from UCI (/etc/config/echomesh) instead of a file; `guard` runs uci, `run` asks the guard",
    ),
    ("uci-path", Some("FILE"), "the program to run (default: /sbin/uci)"),
    ("user", Some("USER"), "user to become if started as root: a name, a UID, or UID:GID"),
    ("api", Some("ADDRESS"), "loopback address of the API, or off (default: 127.0.0.1:7878)"),
    ("ubus", Some("SOCKET"), "socket of ubusd, or off (default: OpenWrt's, if it is there at the start)"),
    ("json", None, "print the node's answer as it is"),
    ("watch", None, "refresh each second until Ctrl-C"),
    ("since", Some("INSTANT"), "from this instant on, such as 2025-12-19T14:00:00Z"),
    ("bundles", None, "what was billed, bundles and totals, instead of the access log"),
    ("out", Some("FILE"), "write to a new file instead of standard output"),
    ("clear-quarantine", None, "end a quarantine as well"),
    ("to", Some("FORM"), "yaml, json or uci"),
    ("print", None, "print the firewall table as nft would list it, and end"),
    ("keep-config", None, "leave the configuration where it is"),
    ("yes", None, "do it without a question, even what cannot be undone"),
    ("plain", None, "without a seal"),
    ("passphrase-file", Some("FILE"), "file whose first line is the passphrase, or - for standard input"),
    ("old-passphrase-file", Some("FILE"), "the same for the passphrase that the key has now"),
    ("region", Some("REGION,..."), "regions that the node may serve: PH, PH-NCR"),
    ("max-mbps", Some("MBPS"), "rate of all sessions together"),
    ("max-gb-per-day", Some("GB"), "volume per day"),
    ("max-gb-per-month", Some("GB"), "volume per month, or none"),
    ("schedule", Some("WINDOWS"), "when: always, or such as \"Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00\""),
    ("coordinator", Some("URL"), "the coordinator, or none"),
    ("coordinator-key", Some("KEY"), "the key that signs its orders"),
    ("listen", Some("ADDRESS:PORT"), "where buyers connect"),
    ("name", Some("NAME,..."), "names and addresses by which they do"),
    ("key", Some("KEY"), "new, sealed, keep (made at the first start), or a file to take over"),
    ("check", None, "ask the coordinator first whether it answers"),
];

/// All commands, in the order of the help text.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        operands: "",
        count: (0, 0),
        options: &["config", "uci", "run-dir", "state-dir", "user", "api", "ubus"],
        summary: "run the node in the foreground",
        text: "Ends on SIGTERM or SIGINT, reads its configuration again on SIGHUP, logs to standard error. Started as root, it becomes \
               USER; missing or empty directories are given to USER, others must belong to USER already.",
    },
    Command {
        name: "guard",
        operands: "",
        count: (0, 0),
        options: &["config", "uci", "uci-path", "run-dir", "user", "print"],
        summary: "hold the node's traffic within policy by a firewall table",
        text: "Runs in the foreground, as root, beside `run`, which runs as the user named here (default: echomesh). Keeps CAP_NET_ADMIN\nalone. The table stays when it ends: `nft delete table inet echomesh` removes it. SIGHUP makes it\nread the configuration again; addresses that are written there are taken in then and at the start only.",
    },
    Command {
        name: "setup",
        operands: "",
        count: (0, 0),
        options: &[
            "config",
            "uci",
            "uci-path",
            "region",
            "max-mbps",
            "max-gb-per-day",
            "max-gb-per-month",
            "schedule",
            "coordinator",
            "coordinator-key",
            "listen",
            "name",
            "key",
            "passphrase-file",
            "check",
            "yes",
        ],
        summary: "ask what a node needs and write its configuration",
        text: "Asks what no option has answered; with --yes nothing, and what is not given stays as it is or is the\ndefault. On OpenWrt, and with --uci, it is UCI that is read and written. A configuration that there is is the starting point, a key that there is is never touched.\nAnswers of an interrupted setup are offered at the next one.",
    },
    Command {
        name: "status",
        operands: "",
        count: (0, 0),
        options: &["watch", "json", "run-dir"],
        summary: "show what the node is doing",
        text: "Colours are used on a terminal only, and not if NO_COLOR is set.",
    },
    Command {
        name: "sessions",
        operands: "",
        count: (0, 0),
        options: &["json", "run-dir"],
        summary: "list the open sessions",
        text: "",
    },
    Command {
        name: "sessions close",
        operands: "ID",
        count: (1, 1),
        options: &["run-dir"],
        summary: "close a session",
        text: "Its connections are reset, its counters sealed and settled.",
    },
    Command {
        name: "start",
        operands: "",
        count: (0, 0),
        options: &["clear-quarantine", "run-dir"],
        summary: "carry traffic (again)",
        text: "",
    },
    Command {
        name: "pause",
        operands: "",
        count: (0, 0),
        options: &["run-dir"],
        summary: "refuse and reset all connections; sessions stay open",
        text: "",
    },
    Command {
        name: "stop",
        operands: "",
        count: (0, 0),
        options: &["run-dir"],
        summary: "close and settle all sessions; the node keeps running",
        text: "",
    },
    Command {
        name: "config check",
        operands: "[FILE]",
        count: (0, 1),
        options: &["config"],
        summary: "say whether a configuration is valid",
        text: "Names every fault with its line, value and what is allowed.",
    },
    Command {
        name: "config show",
        operands: "[FILE]",
        count: (0, 1),
        options: &["config", "to"],
        summary: "print a configuration with all defaults",
        text: "",
    },
    Command {
        name: "config init",
        operands: "",
        count: (0, 0),
        options: &["out"],
        summary: "print a configuration to start from",
        text: "",
    },
    Command {
        name: "config convert",
        operands: "FILE",
        count: (1, 1),
        options: &["to", "out"],
        summary: "turn YAML, JSON and UCI into each other",
        text: "",
    },
    Command {
        name: "config get",
        operands: "[NAME]",
        count: (0, 1),
        options: &["run-dir"],
        summary: "print the running node's configuration, or one value",
        text: "NAME is a path such as network.maxMbps.",
    },
    Command {
        name: "config set",
        operands: "NAME=VALUE...",
        count: (1, MANY),
        options: &["run-dir"],
        summary: "change the running node's configuration",
        text: "VALUE is JSON, or a text. null takes the member out. All changes are made together or none; if somebody else\nchanged the configuration meanwhile, nothing is done.",
    },
    Command {
        name: "logs export",
        operands: "",
        count: (0, 0),
        options: &["since", "bundles", "out", "run-dir"],
        summary: "print the access log, without names and payload",
        text: "With --bundles what was billed; `echomesh verify` checks one against the other.",
    },
    Command {
        name: "verify",
        operands: "FILE...",
        count: (1, MANY),
        options: &[],
        summary: "check metering bundles offline: signatures, chain, sums",
        text: "Reads bundles as they were posted, lines of `logs export`, and settled transitions with their totals; as JSON\nlines, arrays or request bodies. Exit code 4 if anything is wrong.",
    },
    Command {
        name: "keys show",
        operands: "",
        count: (0, 0),
        options: &["config"],
        summary: "print the NodeID",
        text: "",
    },
    Command {
        name: "keys generate",
        operands: "",
        count: (0, 0),
        options: &["config", "passphrase-file"],
        summary: "make the node's key, if there is none",
        text: "It is sealed if a passphrase is given.",
    },
    Command {
        name: "keys seal",
        operands: "",
        count: (0, 0),
        options: &["config", "passphrase-file", "old-passphrase-file"],
        summary: "seal the key with a passphrase, or with another one",
        text: "Without a file the passphrase is asked for. Keys that are kept aside are sealed too. The form is encrypted\nPKCS#8, which `openssl pkey` opens.",
    },
    Command {
        name: "keys unseal",
        operands: "",
        count: (0, 0),
        options: &["config", "passphrase-file", "yes"],
        summary: "write the key without a seal",
        text: "A file that only the node's user reads is what protects it then. Needs --yes.",
    },
    Command {
        name: "keys unlock",
        operands: "",
        count: (0, 0),
        options: &["passphrase-file", "run-dir"],
        summary: "give a node that waits for it the passphrase",
        text: "The node goes on without a restart.",
    },
    Command {
        name: "keys export",
        operands: "",
        count: (0, 0),
        options: &["config", "out", "passphrase-file", "plain", "yes"],
        summary: "print the node's private key (PKCS#8 PEM), sealed",
        text: "Whoever has it and the passphrase is this node. A key that is not sealed is sealed for the export, with a\npassphrase that is asked for. Without a seal only with --plain --yes.",
    },
    Command {
        name: "keys import",
        operands: "FILE",
        count: (1, 1),
        options: &["config", "passphrase-file"],
        summary: "take over a private key from a file",
        text: "A sealed one needs its passphrase, and stays sealed with it. The key that was there is kept under another name.",
    },
    Command {
        name: "keys rotate",
        operands: "",
        count: (0, 0),
        options: &["config", "passphrase-file"],
        summary: "replace the key; the old one vouches for the new one",
        text: "A sealed key's successor is sealed with the same passphrase. Takes effect at the next start of the node.",
    },
    Command {
        name: "keys wipe",
        operands: "",
        count: (0, 0),
        options: &["config", "yes"],
        summary: "destroy the key",
        text: "There is no way back: what the coordinator knows of this node is lost with it. Needs --yes.",
    },
    Command {
        name: "wipe",
        operands: "",
        count: (0, 0),
        options: &["config", "run-dir", "state-dir", "keep-config", "yes"],
        summary: "destroy keys, journal, logs and configuration",
        text: "Says line by line what is gone, and what is not. Refuses while a node is running. Needs --yes.",
    },
    Command {
        name: "diagnostics",
        operands: "",
        count: (0, 0),
        options: &["run-dir"],
        summary: "print figures that help to find a fault",
        text: "",
    },
    Command {
        name: "report",
        operands: "",
        count: (0, 0),
        options: &["out", "run-dir"],
        summary: "make an issue report without personal data",
        text: "Read it before you publish it.",
    },
    Command {
        name: "version",
        operands: "",
        count: (0, 0),
        options: &[],
        summary: "print the version",
        text: "",
    },
    Command {
        name: "help",
        operands: "[COMMAND]",
        count: (0, 2),
        options: &[],
        summary: "explain a command",
        text: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_a_command_is_explained_and_every_option_used() {
        let known: Vec<&str> = OPTIONS.iter().map(|o| o.0).collect();
        let used: Vec<&str> = COMMANDS.iter().flat_map(|c| c.options).copied().collect();
        assert_eq!(used.iter().find(|o| !known.contains(o)), None);
        assert_eq!(known.iter().find(|o| !used.contains(o)), None);
    }
}
