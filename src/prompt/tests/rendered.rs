//! What right templates become.

use super::*;

const LONG: usize = 240;

#[test]
fn what_a_template_sees() {
    for (template, expected) in [
        ("{{ persona.id }}", "ann"),
        ("{{ persona.profile }}", "Ann is old."),
        ("{{ persona.facts.age + 1 }}", "82"),
        ("{{ persona['a-b'] }}", "odd"),
        ("{{ vars.part }}/{{ vars.title }}", "1/Arriving"),
        ("{{ vars.part + 1 }}", "2"),
        (
            "{% for k, v in persona.facts.deep | items %}{{ k }}={{ v }}{% endfor %}",
            "key=value",
        ),
        ("{{ needs | length }}", "0"),
        ("{{ persona.facts.list | join('+') }}", "1+2"),
        ("{{ persona.facts.deep | tojson }}", "{\"key\": \"value\"}"),
        ("{{ '<b> & \"' }}", "<b> & \""),
    ] {
        assert_eq!(Project::one(template).user(0), expected, "{template}");
    }
}

#[test]
fn answers_of_other_nodes() {
    for (template, expected) in [
        (
            "{% for need in needs %}{{ need.id }}:{{ need.text }};{% endfor %}",
            "chunk-1:first;chunk-2:second;",
        ),
        ("{{ needs['chunk-2'].text }}", "second"),
        ("{{ needs['chunk-2'] }}", "second"),
        ("{{ needs[0].id }}", "chunk-1"),
        (
            "{{ needs | length }} {{ needs | map(attribute='text') | join('+') }}",
            "2 first+second",
        ),
        ("{{ (needs | last).text }}", "second"),
    ] {
        assert_eq!(
            Project::new("").with("combine.md", template).user(2),
            expected,
            "{template}"
        );
    }
}

#[test]
fn context_and_prompt_are_one_message_with_one_blank_line() {
    let project = Project::new("context = \"context.md\"\nsystem = \"system.md\"")
        .with("two.md", "prompt\r\n\r\n")
        .with("context.md", "\u{feff}context\r\nof {{ persona.id }}\n\n")
        .with("system.md", "be kind\n");
    let request = project.request(1).unwrap();
    let messages: Vec<(Role, &str)> = request
        .messages
        .iter()
        .map(|m| (m.role, m.content.as_str()))
        .collect();
    assert_eq!(
        messages,
        [
            (Role::System, "be kind"),
            (Role::User, "context\nof ann\n\nprompt")
        ]
    );
}

#[test]
fn what_renders_to_nothing_is_not_sent() {
    let project = Project::new("context = \"context.md\"\nsystem = \"system.md\"")
        .with("context.md", "{% if false %}x{% endif %}\n")
        .with("system.md", " \n ");
    let request = project.request(1).unwrap();
    assert_eq!(
        request.messages,
        [Message {
            role: Role::User,
            content: "2".to_owned()
        }]
    );
}

#[test]
fn the_rest_of_a_request() {
    let project = Project::new(
        "model = { temperature = 0.5, max_output_tokens = 7, service_tier = \"flex\" }\nvariant = \"b\"",
    );
    let request = project.request(1).unwrap();
    assert_eq!((&*request.provider, &*request.model), ("simulator", "m"));
    assert_eq!(request.variant.as_deref(), Some("b"));
    assert_eq!(request.parameters["temperature"], serde_json::json!(0.5));
    assert_eq!(request.delivery.max_output_tokens, Some(7));
    assert_eq!(request.delivery.service_tier.as_deref(), Some("flex"));
}

#[test]
fn guards_make_names_optional() {
    for (template, expected) in [
        ("{{ vars.note | default('none') }}", "none"),
        (
            "{% if vars.note is defined %}{{ vars.note }}{% else %}-{% endif %}",
            "-",
        ),
        (
            "{% if vars.note is undefined %}-{% else %}{{ vars.note.deep }}{% endif %}",
            "-",
        ),
        (
            "{% if vars.note is defined and vars.note.deep %}{{ vars.note.deep }}{% endif %}-",
            "-",
        ),
        ("{{ vars.note if vars.note is defined else '-' }}", "-"),
        ("{% if vars.part == 2 %}{{ vars.only_in_two }}{% endif %}-", "-"),
        (
            "{% if vars.part > 1 or vars.title == 'x' %}{{ vars.only_in_two }}{% endif %}-",
            "-",
        ),
        (
            "{% if not (vars.part | string in ['1', '3']) %}{{ vars.only_in_two }}{% endif %}-",
            "-",
        ),
        (
            "{% if vars.part is odd %}-{% else %}{{ vars.only_in_two }}{% endif %}",
            "-",
        ),
        (
            "{% if needs['chunk-9'] is defined %}{{ needs['chunk-9'].text }}{% endif %}-",
            "-",
        ),
        ("{% for need in needs %}{{ vars.intro }}{% endfor %}-", "-"),
        ("{% if needs %}{{ vars.intro }}{% endif %}-", "-"),
        ("{% if needs | length > 0 %}{{ needs[0].text }}{% endif %}-", "-"),
        ("{{ persona.notes | default('-') }}", "-"),
        (
            "{% if persona.notes is defined %}{{ persona.notes.x }}{% endif %}-",
            "-",
        ),
        ("{% set x = 1 %}{{ x }}", "1"),
        (
            "{% if persona.facts.age > 80 %}{% set x = 'old' %}{% else %}{% set x = 'young' %}{% endif %}{{ x }}",
            "old",
        ),
        (
            "{% macro m(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ m('-') }}",
            "-x",
        ),
        ("{% for x in [1, 2] %}{{ loop.index }}{% endfor %}", "12"),
        (
            "{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        ("{% with vars = {'note': 'n'} %}{{ vars.note }}{% endwith %}", "n"),
        ("{{ range(3) | join }}", "012"),
        ("{% raw %}{{ nothing }}{% endraw %}", "{{ nothing }}"),
    ] {
        assert_eq!(Project::one(template).user(0), expected, "{template}");
    }
}

#[test]
fn templates_of_the_project_can_be_shared() {
    let base = Project::new("")
        .with("parts/voice.md", "{{ persona.id }} in part {{ vars.part }}")
        .with("parts/base.md", "<{% block body %}{% endblock %}>")
        .with(
            "parts/macros.md",
            "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}",
        );
    for (template, expected) in [
        ("{% include 'parts/voice.md' %}", "ann in part 1"),
        ("{% include './parts//voice.md' %}", "ann in part 1"),
        ("{% include ['nowhere.md', 'parts/voice.md'] %}", "ann in part 1"),
        ("{% include 'nowhere.md' ignore missing %}-", "-"),
        (
            "{% extends 'parts/base.md' %}{% block body %}{{ vars.title }}{% endblock %}",
            "<Arriving>",
        ),
        ("{% from 'parts/macros.md' import twice %}{{ twice('a') }}", "aa"),
        ("{% import 'parts/macros.md' as m %}{{ m.twice('a') }}", "aa"),
        ("{% for x in [1] %}{% include 'parts/loop.md' %}{% endfor %}", "1"),
    ] {
        let project = Project {
            templates: base.templates.clone(),
            ..Project::one("")
        };
        let project = project.with("parts/loop.md", "{{ x }}").with("one.md", template);
        assert_eq!(project.user(0), expected, "{template}");
    }
    assert_eq!(
        references("{% include ['a', './b'] %}{% if x %}{% import 'c' as c %}{% endif %}{% include d %}"),
        ["a", "b", "c"]
    );
}

/// A template that nobody names may be half written.
#[test]
fn templates_that_nothing_names_are_not_looked_at() {
    assert_eq!(Project::new("").with("draft.md", "{% if %}").errors(), "no error");
}

/// Long and deep templates are looked through in time that grows with them, and on a small stack.
#[test]
fn long_and_deep_templates() {
    let repeat = |first: &str, more: &str, last: &str| format!("{first}{}{last}", more.repeat(LONG));
    for (template, expected) in [
        (repeat("{{ 1", " + 1", " }}"), Some((LONG + 1).to_string())),
        (repeat("{{ 'a'", " ~ vars.part", " }}"), None),
        (
            repeat("{% if vars.part == 1", " and vars.part == 1", " %}x{% endif %}"),
            Some("x".to_owned()),
        ),
        (
            repeat("{{ vars.title", " | upper", " }}"),
            Some("ARRIVING".to_owned()),
        ),
        (repeat("", "{{ vars.part }}", ""), None),
        (
            repeat(
                "{% if false %}{% ",
                "elif vars.part == 2 %}{% ",
                "elif true %}x{% endif %}",
            ),
            None,
        ),
    ] {
        let project = Project::one(&template);
        let rendered = project.compile().map(|prompts| prompts.request(0, &ann(), &[]));
        if let (Ok(Ok(request)), Some(expected)) = (rendered, expected) {
            assert_eq!(request.messages[0].content, expected);
        }
    }
}

/// The deepest that each limit allows, all in one.
#[test]
fn every_limit_at_once() {
    let sum = format!("{{{{ 1{} }}}}", " + 1".repeat(LONG));
    let nested = format!(
        "{}{sum}{}",
        "{% if true %}".repeat(140),
        "{% endif %}".repeat(140)
    );
    let branches = format!(
        "{{% if false %}}{}{nested}{{% endif %}}",
        "{% elif vars.part == 2 %}".repeat(LONG)
    );
    for template in [nested, branches] {
        match Project::one(&template).compile() {
            Ok(prompts) => drop(prompts.request(0, &ann(), &[])),
            Err(errors) => assert!(errors[0].message.contains("recursion limit"), "{}", errors[0]),
        }
    }
}

/// A rehearsal without a persona must not take a tree for an endless one.
#[test]
fn recursion_that_ends() {
    let tree = "{% for x in persona.tree recursive %}{{ x.name }}{{ loop(x.children) }}{{ loop(x.more) }}{% endfor %}";
    assert_eq!(Project::one(tree).errors(), "no error");
    let include =
        "{% for x in node.children %}{% with node = x %}{% include 'node.md' %}{% endwith %}{% endfor %}";
    let project =
        Project::one("{% set node = persona.tree %}{% include 'node.md' %}").with("node.md", include);
    assert_eq!(project.errors(), "no error");
    let call =
        "{% macro m(x) %}{% if x.next %}{{ m(x.next) }}{% endif %}{% endmacro %}{{ m(persona.facts) }}";
    assert_eq!(Project::one(call).errors(), "no error");
}

#[test]
fn the_same_every_time_and_from_every_thread() {
    let project = Project::new("").with(
        "combine.md",
        "{{ persona }} {{ vars }} {% for n in needs %}{{ n.text }}{% endfor %}",
    );
    let prompts = project.compile().unwrap();
    let (one, two) = (NodeId::from("chunk-1"), NodeId::from("chunk-2"));
    let render = || {
        prompts
            .request(2, &ann(), &[(&one, "first"), (&two, "second")])
            .unwrap()
    };
    let first = render();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(render)).collect();
        threads
            .into_iter()
            .for_each(|thread| assert_eq!(thread.join().unwrap(), first));
    });
}

proptest! {
    /// What a persona says is text, whatever it looks like, and the order of the files is nothing.
    #[test]
    fn personas_are_not_templates(text in "[{}%#a \"'\\\\\n-]{0,40}", other in "\\PC{0,20}") {
        let files = [("profile.md", &text), ("z.md", &other)]
            .map(|(name, text)| PersonaFile { name: name.to_owned(), bytes: text.as_bytes().to_vec() });
        let reversed: Vec<PersonaFile> = files.iter().rev().cloned().collect();
        let project = Project::one("<{{ persona.profile }}|{{ persona.z }}>");
        let prompts = project.compile().unwrap();
        let render = |files: &[PersonaFile]| {
            let persona = Persona::build(&"p".into(), "p", files).unwrap();
            prompts.request(0, &persona, &[]).unwrap()
        };
        let rendered = render(&files);
        prop_assert_eq!(&rendered, &render(&reversed));
        let trimmed = |text: &str| text.trim_end_matches('\n').to_owned();
        prop_assert_eq!(&rendered.messages[0].content, &format!("<{}|{}>", trimmed(&text), trimmed(&other)));
    }

    /// No template makes the compiler or the renderer panic.
    #[test]
    fn no_template_panics(pieces in prop::collection::vec(prop::sample::select(&[
        "{{ ", " }}", "{% ", " %}", "if ", "for x in ", "endif", "endfor", "persona", ".profile", "vars", ".part", "needs", "[0]", "['x']", " | ",
        "upper", "nope", "(", ")", "is defined", "not ", "+", "1", "\"", "set x = ", "macro m(a)", "endmacro", "include 'one.md'", "-%}", "{#", "#}", "loop", "m(1)", ",",
    ][..]), 0..14)) {
        let project = Project::one(&pieces.concat());
        if let Ok(prompts) = project.compile() {
            let _ = prompts.request(0, &ann(), &[]);
        }
    }
}

/// The texts up to each mark of a request.
fn shared(project: &Project, node: usize) -> Vec<String> {
    let request = project.request(node).unwrap_or_else(|error| panic!("{error}"));
    let marks = request.delivery.shared.iter();
    marks
        .map(|mark| request.messages[mark.message].content[..mark.bytes].to_owned())
        .collect()
}

/// Two chunks and a combine with these defaults.
fn sharing(system: &str, context: &str) -> Project {
    let mut project = Project::new("");
    project
        .pipeline
        .push_str("[prompts]\nsystem = \"system.md\"\ncontext = \"context.md\"\n");
    project.with("system.md", system).with("context.md", context)
}

#[test]
fn marks_stand_after_what_other_requests_begin_with() {
    let project = sharing("Be brief.", "# {{ persona.profile }}");
    for node in 0..3 {
        assert_eq!(
            shared(&project, node),
            ["Be brief.", "# Ann is old.\n\n"],
            "{node}"
        );
    }
    let project = sharing("Be brief, {{ persona.id }}.", "# {{ persona.profile }}");
    assert_eq!(
        shared(&project, 0),
        ["# Ann is old.\n\n"],
        "a system message of one persona alone is shared with its context"
    );
    let project = sharing("", "# {{ persona.profile }}");
    assert_eq!(shared(&project, 0), ["# Ann is old.\n\n"]);
    let project = sharing("Be brief.", "");
    assert_eq!(shared(&project, 0), ["Be brief."]);
    let mut project = sharing("Be brief, {{ persona.id }}.", "");
    project.pipeline = project.pipeline.replace("context = \"context.md\"\n", "");
    assert_eq!(shared(&project, 0), ["Be brief, ann."]);
}

#[test]
fn nobody_pays_for_keeping_what_nobody_reads() {
    let alone = |change: &str| {
        let mut project = sharing("Be brief.", "# {{ persona.profile }}");
        project.pipeline = project.pipeline.replace("prompt = \"two.md\"", change);
        let mut marks: Vec<usize> = (0..3).map(|node| shared(&project, node).len()).collect();
        marks.remove(1);
        (marks, shared(&project, 1))
    };
    let rows = [
        "prompt = \"two.md\"\nmodel = { name = \"other\" }",
        "prompt = \"two.md\"\nmodel = { reasoning_effort = \"low\" }",
        "prompt = \"two.md\"\nmodel = { extra = { verbosity = \"low\" } }",
    ];
    for change in rows {
        let (others, own) = alone(change);
        assert_eq!(own, ["Be brief."], "{change}");
        assert_eq!(others, [2, 2], "{change}");
    }
    let (_, own) = alone("prompt = \"two.md\"\nmodel = { temperature = 0.5 }");
    assert_eq!(own.len(), 2, "a temperature breaks nothing");
    let (_, own) = alone("prompt = \"two.md\"\nsystem = \"\"");
    assert_eq!(own, [""; 0], "without the instructions nothing is alike");

    let project = sharing("Be brief.", "# {{ persona.profile }} {{ vars.part }}");
    let project = project.with(
        "context.md",
        "{% if vars.part is defined %}{{ vars.part }}{% endif %} {{ persona.profile }}",
    );
    assert_eq!(shared(&project, 0), ["Be brief."], "each node has its own `vars`");
}

#[test]
fn a_mark_changes_no_text_and_no_key() {
    let project = sharing("Be brief.", "# {{ persona.profile }}");
    let request = project.request(0).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(request.messages[1].content, "# Ann is old.\n\n1");
    let mut bare = request.clone();
    bare.delivery = Delivery::default();
    assert_eq!(crate::call::Key::of(&request), crate::call::Key::of(&bare));
}

/// What the nodes of a persona share is rendered once, and nothing else is taken for shared.
#[test]
fn requests_are_the_same_whether_or_not_others_were_rendered_before() {
    let contexts = [
        ("{{ persona.profile }}", true),
        ("always the same", true),
        ("{{ vars.part | default('none') }}", false),
        ("{% include 'part.md' %}", false),
        ("{% set v = vars %}{{ v.part | default('none') }}", false),
        ("{% for need in needs %}{{ need }}{% endfor %}.", false),
    ];
    for (context, shared) in contexts {
        let mut project = Project::new("context = \"context.md\"\nvars = { part = 2 }")
            .with("context.md", context)
            .with("part.md", "{{ vars.part | default('none') }}");
        for node in ["one.md", "combine.md"] {
            let prompt = format!("prompt = \"{node}\"");
            project.pipeline = project
                .pipeline
                .replace(&prompt, &format!("{prompt}\ncontext = \"context.md\""));
        }
        let prompts = project.compile().unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert_eq!(prompts.of_persona.contains("context.md"), shared, "{context}");
        let (one, two) = (NodeId::from("chunk-1"), NodeId::from("chunk-2"));
        let parts = Parts::default();
        for node in [0, 1, 2, 0, 1, 2] {
            let needs = [(&two, "second"), (&one, "first")];
            let alone = prompts.request(node, &ann(), &needs).unwrap();
            let among = prompts.next_request(node, &ann(), &needs, &parts).unwrap();
            assert_eq!(among, alone, "{context}");
        }
    }
}
