//! Examples for `--help`.

/// Examples of each command, by its name; the empty name is the program itself. `{bin}` stands for the program's name.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        "",
        "Examples:
  {bin} ls                        list open sessions
  {bin} show web                  the session into the pod `web`, with the counters of each connection
  {bin} trace                     draw sessions as they happen
  {bin} watch                     the same on a live screen
  {bin} trace --pod web --once    the next session into one pod
  {bin} replay incident.jsonl.zst",
    ),
    (
        "trace",
        "Examples:
  {bin} trace                                     every session, drawn hop by hop
  {bin} trace --namespace default --pod web       only sessions into one pod
  {bin} trace --once --duration 5m                the next session, within five minutes
  {bin} trace --explain --once                    the next session, explained step by step
  {bin} trace -o jsonl | jq .session.id           for programs
  {bin} trace -o tree -o jsonl=sessions.jsonl     drawn, and saved as JSON Lines
  {bin} trace --record incident.jsonl.zst         record all observations, to replay elsewhere
  {bin} trace --record a.jsonl.zst --measure 5s   record the samples that `diagnose --from` needs
  {bin} trace --redact 'password=[^ ]*'           keep secrets out of output and recording
  {bin} trace --audit-log /var/log/audit.log      with the user behind each session
  {bin} trace --metrics 127.0.0.1:9464            and metrics for Prometheus
  {bin} trace --from nats://nats.example/prod     all hosts of a cluster",
    ),
    (
        "ls",
        "Examples:
  {bin} ls                                        all sessions of users
  {bin} ls --kind all                             including exec probes
  {bin} ls -n default -w                          one namespace, every two seconds
  {bin} ls -o wide                                with API server, user and whole commands
  {bin} ls -o name                                ids only, for `show` and scripts
  {bin} ls --server 10.0.0.1:6443                 sessions of one cluster
  {bin} ls -o json | jq '.[] | select(.idle_ms > 60000) | .id'
  {bin} ls --from incident.jsonl.zst --at +90s    sessions open at that moment
  {bin} ls --from nats://nats.example/prod        sessions of all hosts that publish there",
    ),
    (
        "show",
        "Examples:
  {bin} show s-4f9c2a                             by id, or a unique prefix of it
  {bin} show 23605                                by a pid on its path
  {bin} show default/web                          by pod
  {bin} show web/side                             by pod and container, in the namespace `default`
  {bin} show web --watch 1s                       its counters, every second
  {bin} show web --explain                        each step in plain words
  {bin} show web --from incident.jsonl.zst        its last state in a recording",
    ),
    (
        "diagnose",
        "Exits with 10 if a fault is found.

Examples:
  {bin} diagnose                                  all sessions, and leftovers of closed ones
  {bin} diagnose web                              the sessions into the pod `web`
  {bin} diagnose --all                            healthy sessions, too
  {bin} diagnose -o json | jq '.[].code'
  {bin} diagnose --from incident.jsonl.zst --at 2026-11-21T22:14:03Z",
    ),
    (
        "record",
        "Examples:
  {bin} record incident.jsonl.zst                 until Ctrl-C
  {bin} record incident.jsonl.zst --duration 10m
  {bin} record node.jsonl.zst --rotate 100MB,24h,keep=7
                                                     for weeks; each file can be replayed
  {bin} record nats://nats.example/prod           to the stream of a cluster
  {bin} record incident.jsonl.zst --from nats://nats.example/prod --since 1h
                                                     all hosts of the cluster",
    ),
    (
        "agent",
        "SIGHUP reads the configuration again; SIGTERM ends the agent after a complete recording.

Examples:
  {bin} agent --config /etc/execpath/agent.toml      all options from a file
  {bin} agent --check --config agent.toml            is the file valid?
  {bin} agent --record /var/lib/execpath/node.jsonl.zst --metrics :9464
  {bin} agent --otlp 127.0.0.1:4317                  to a collector on this node",
    ),
    (
        "watch",
        "Keys: arrows, Enter, Tab and Esc navigate, / filters, s sorts, Space pauses, ? lists all keys, q quits.
Moving bytes are animated on their connection. After `kill -9`, `reset` restores the terminal.

Examples:
  {bin} watch                                     live sessions
  {bin} watch --namespace default                 one namespace
  {bin} watch --from nats://nats.example/prod     all hosts of a cluster
  {bin} watch incident.jsonl.zst                  a recording: Space plays, arrows move in time",
    ),
    (
        "replay",
        "Examples:
  {bin} replay incident.jsonl.zst                 as shown live
  {bin} replay incident.jsonl.zst --explain       with each step in plain words
  {bin} replay incident.jsonl.zst -o jsonl        for programs
  {bin} replay incident.jsonl.zst --pod web       one pod only
  {bin} replay incident.jsonl.zst --speed 1       at the recorded speed
  {bin} replay incident.jsonl.zst --at +90s -o table
                                                     sessions open at that moment
  {bin} replay node.*.jsonl.zst                   a recording in parts
  zstd -dc incident.jsonl.zst | {bin} replay -    from a pipe",
    ),
    (
        "merge",
        "Examples:
  {bin} record client.jsonl.zst                   on each host, with its own file name
  {bin} merge client.jsonl.zst master.jsonl.zst node.jsonl.zst -o whole.jsonl.zst
  {bin} replay whole.jsonl.zst                    paths from kubectl to the process",
    ),
    (
        "cut",
        "The cut replays to the same session, with the same faults: this is verified before the file is written.

Examples:
  {bin} cut incident.jsonl.zst s-4f9c2a -o web.jsonl.zst    for a bug report
  {bin} cut node.*.jsonl.zst default/web -o web.jsonl.zst   out of a recording in parts",
    ),
    (
        "schema",
        "Examples:
  {bin} schema > execpath.schema.json",
    ),
    (
        "render",
        "Examples:
  {bin} render incident.jsonl.zst -o html=incident.html     a page for the browser
  {bin} render incident.jsonl.zst web -o svg=web.svg        a drawing of one pod's session
  {bin} render incident.jsonl.zst -o mermaid                for Markdown
  {bin} render incident.jsonl.zst -o perfetto=trace.json    for ui.perfetto.dev",
    ),
    (
        "run",
        "Streams, signals, terminal and exit code are the command's own. If it fails, one line on stderr states the cause.
Exit code: the command's; 128 plus the number of the signal that killed it; 127 if it does not exist, 126 if it
cannot be executed; 125 with `--fail-on-lie`. Without root, the cause is rarely known; the line says so.

Examples:
  {bin} run -- kubectl exec web -- make test      in a CI job
  {bin} run --record fail.jsonl.zst -- kubectl exec web -- make test
                                                     keep the evidence of a failure
  {bin} run --fail-on-lie -- kubectl exec web -- ./migrate
                                                     fail if the connection ended before the command
  {bin} run -- ./deploy.sh                        a script that runs kubectl",
    ),
    (
        "demo",
        "Examples:
  {bin} demo                                      drawn
  {bin} demo -o jsonl                             for programs
  {bin} demo -- sh -c 'exit 7'                    another command at the end of the path",
    ),
    (
        "doctor",
        "Examples:
  {bin} doctor                                    before the first trace on a host",
    ),
    (
        "completions",
        "Examples:
  {bin} completions bash > /etc/bash_completion.d/execpath
  {bin} completions zsh > \"${fpath[1]}/_execpath\"",
    ),
];
