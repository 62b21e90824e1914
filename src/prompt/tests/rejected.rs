//! Every mistake and the whole text that a person reads about it.

use super::*;

macro_rules! before {
    ($template:expr, @$expected:literal) => {
        insta::assert_snapshot!(Project::one($template).errors(), @$expected);
    };
}

macro_rules! for_ann {
    ($template:expr, @$expected:literal) => {
        insta::assert_snapshot!(Project::one($template).failure(), @$expected);
    };
}

#[test]
fn no_template() {
    before!("one\n{{ vars.part", @r#"
    not a valid template: unexpected end of input, expected end of variable block
      --> one.md:2
    "#);
    before!("{% if vars.part %}", @r#"
    not a valid template: unexpected end of input, expected end of block
      --> one.md:1
    "#);
    before!("{% endfor %}", @r#"
    not a valid template: unknown statement endfor
      --> one.md:1
    "#);
    before!("{{ 'a\n", @r#"
    not a valid template: unexpected end of string
      --> one.md:1
    "#);
    insta::assert_snapshot!(Project::new("context = \"contxt.md\"").with("context.md", "").errors(), @r#"
    node `chunk-2`: the template `contxt.md` does not exist
      --> pipeline.toml:8

    hint: did you mean `context.md`?
    "#);
}

#[test]
fn names_that_no_persona_has() {
    before!("a\nb {{ vars.titel }}", @r#"
    node `chunk-1`: `vars.titel` is not defined
      --> one.md:2

    hint: did you mean `vars.title`?
    "#);
    before!("{{ vars.zzz }}", @r#"
    node `chunk-1`: `vars.zzz` is not defined
      --> one.md:1

    hint: `vars` has `part`, `title`
    "#);
    before!("{{ vars.title.first }}", @r#"
    node `chunk-1`: `vars.title.first` is not defined
      --> one.md:1

    hint: `vars.title` is a text and has nothing in it
    "#);
    before!("{{ persna.id }}", @r#"
    node `chunk-1`: `persna` is not defined
      --> one.md:1

    hint: did you mean `persona`?
    "#);
    before!("{{ title }}", @r#"
    node `chunk-1`: `title` is not defined
      --> one.md:1

    hint: did you mean `vars.title`?
    "#);
    before!("{{ whatever }}", @r#"
    node `chunk-1`: `whatever` is not defined
      --> one.md:1

    hint: a template sees `persona`, `vars` and `needs`
    "#);
    before!("{% if persona.facts.age > 100 %}\n{{ vars.titel }}\n{% endif %}", @r#"
    node `chunk-1`: `vars.titel` is not defined
      --> one.md:2

    hint: did you mean `vars.title`?
    "#);
    before!("{% macro never() %}{{ vars.titel }}{% endmacro %}", @r#"
    node `chunk-1`: `vars.titel` is not defined
      --> one.md:1

    hint: did you mean `vars.title`?
    "#);
    before!("{% for x in persona.facts.list if x > vars.prt %}{% endfor %}", @r#"
    node `chunk-1`: `vars.prt` is not defined
      --> one.md:1

    hint: did you mean `vars.part`?
    "#);
    before!("{{ vars.a.b | default('x') }}", @r#"
    node `chunk-1`: `vars.a` is not defined
      --> one.md:1

    hint: `vars` has `part`, `title`
    "#);
    before!("{{ persona.facts[vars.ky] }}", @r#"
    node `chunk-1`: `vars.ky` is not defined
      --> one.md:1

    hint: `vars` has `part`, `title`
    "#);
    before!("{{ needs['chunk-2'].text }}", @r#"
    node `chunk-1`: `needs["chunk-2"].text` is not defined
      --> one.md:1

    hint: this node needs no other: write `needs = ["chunk-2"]` in `pipeline.toml`
    "#);
    insta::assert_snapshot!(Project::new("").with("combine.md", "{{ needs['chunk-3'].text }}\n{{ needs[2] }}\n{{ needs['chunk-1'].txt }}").errors(), @r#"
    node `combine`: `needs["chunk-3"].text` is not defined
      --> combine.md:1

    hint: did you mean `needs["chunk-2"]`?

    node `combine`: `needs[2]` is not defined
      --> combine.md:2

    hint: `needs` has `chunk-1`, `chunk-2`

    node `combine`: `needs["chunk-1"].txt` is not defined
      --> combine.md:3

    hint: did you mean `needs["chunk-1"].text`?
    "#);
}

#[test]
fn filters_tests_and_functions_that_do_not_exist() {
    before!("{% if persona.facts.age > 100 %}{{ persona.profile | uper }}{% endif %}", @r#"
    node `chunk-1`: there is no filter `uper`
      --> one.md:1

    hint: did you mean `upper`?
    "#);
    before!("{{ persona.profile | zzzzzz }}", @r#"
    node `chunk-1`: there is no filter `zzzzzz`
      --> one.md:1

    hint: MiniJinja's filters are listed at https://docs.rs/minijinja/3/minijinja/filters
    "#);
    before!("{% if persona.facts is maping %}{% endif %}", @r#"
    node `chunk-1`: there is no test `maping`
      --> one.md:1

    hint: did you mean `mapping`?
    "#);
    before!("{{ rnge(3) }}", @r#"
    node `chunk-1`: there is no function `rnge`
      --> one.md:1

    hint: did you mean `range`?
    "#);
    before!("{{ upper(persona.profile) }}", @r#"
    node `chunk-1`: there is no function `upper`
      --> one.md:1

    hint: `upper` is a filter: write `{{ … | upper }}`
    "#);
    before!("{{ debug() }}", @r#"
    node `chunk-1`: there is no function `debug`
      --> one.md:1

    hint: the functions are `dict`, `namespace`, `range`
    "#);
    before!("{{ persona.profile.upper() }}", @r#"
    node `chunk-1`: `persona.profile` has no method `upper`
      --> one.md:1

    hint: use the filter: `{{ persona.profile | upper }}`
    "#);
    before!("{{ vars.title | replace }}", @r#"
    node `chunk-1`: missing argument in `replace`
      --> one.md:1
    "#);
    before!("{% filter uppr %}a{% endfilter %}", @r#"
    node `chunk-1`: there is no filter `uppr`
      --> one.md:1

    hint: did you mean `upper`?
    "#);
}

/// Thousands of levels would leave the stack: of the check, or of the engine.
#[test]
fn tags_without_an_end() {
    let repeat = |first: &str, more: &str, last: &str| format!("a\n{first}{}{last}", more.repeat(3_000));
    let expected = Project::one(&repeat("{{ 1", " + 1", " }}")).errors();
    insta::assert_snapshot!(expected, @r#"
    more than 250 operators in one tag
      --> one.md:2

    hint: split it up
    "#);
    for template in [
        repeat("{{ 'a'", " ~ 'a'", " }}"),
        repeat("{{ vars", ".a", " }}"),
        repeat("{{ vars", "['a']", " }}"),
        repeat("{{ 'a'", " | upper", " }}"),
        repeat("{{ 'a'", " is defined", " }}"),
        repeat("{{ ", "not ", " 1 }}"),
        repeat("{{ ", "-", "1 }}"),
        repeat("{{ range", "()", " }}"),
        repeat("{{ 1", " if 1 else 1", " }}"),
        repeat("{% if 1", " and 1", " %}{% endif %}"),
        repeat("{% if 1", " == 1", " %}{% endif %}"),
        repeat("{% if 1", " in 1", " %}{% endif %}"),
    ] {
        assert_eq!(Project::one(&template).errors(), expected, "{}", &template[..40]);
    }
    for template in [
        repeat("{{ ", "(", ""),
        repeat("{{ ", "[", ""),
        repeat("{{ ", "{1:", ""),
        repeat("{{ 1", " | round(range(", ""),
    ] {
        let errors = Project::one(&template).errors();
        assert!(
            errors.starts_with("more than 60 brackets within each other\n  --> one.md:2"),
            "{errors}"
        );
    }
    let branches = Project::one(&repeat("{% if 1 %}", "{% elif 1 %}", "{% endif %}")).errors();
    insta::assert_snapshot!(branches, @r#"
    more than 250 `elif` after one `if`
      --> one.md:2

    hint: split it up
    "#);
    for template in [
        repeat("", "{% if 1 %}", ""),
        repeat("", "{% for x in [1] %}", ""),
        repeat("", "{% with %}", ""),
        repeat("", "{% filter upper %}", ""),
        repeat("", "{% macro a() %}", ""),
    ] {
        let errors = Project::one(&template).errors();
        assert!(
            errors.contains("template exceeds maximum recursion limits"),
            "{errors} {}",
            &template[..40]
        );
    }
}

#[test]
fn other_templates() {
    before!("a\n{% include 'two' %}", @r#"
    the template `two` does not exist, or is not in the folder of one that `pipeline.toml` names
      --> one.md:2

    hint: did you mean `two.md`?
    "#);
    before!("{% include '../../etc/passwd' %}", @r#"
    the template `../../etc/passwd` does not exist, or is not in the folder of one that `pipeline.toml` names
      --> one.md:1

    hint: the templates are `combine.md`, `one.md`, `two.md`
    "#);
    before!("{% include vars.title %}", @r#"
    the name of an included template must stand in quotes, it cannot be put together
      --> one.md:1

    hint: choose with `{% if %}` between two inclusions
    "#);
    insta::assert_snapshot!(Project::one("{% include 'part.md' %}").with("part.md", "\n{{ vars.titel }}").errors(), @r#"
    node `chunk-1`: `vars.titel` is not defined
      --> part.md:2

    hint: did you mean `vars.title`?
    "#);
    insta::assert_snapshot!(Project::one("{% include 'part.md' %}").with("part.md", "\n{{ vars.titel").errors(), @r#"
    not a valid template: unexpected end of input, expected end of variable block
      --> part.md:2
    "#);
}

#[test]
fn what_does_not_end() {
    before!("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", @r#"
    node `chunk-1`: the template does not come to an end: it was stopped
      --> one.md:1

    hint: a loop in it runs too long
    "#);
    before!("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", @r#"
    node `chunk-1`: the prompt is longer than 16 MB
      --> one.md

    hint: a loop in it prints too much, or a file of the persona is too long for any model
    "#);
    before!("{% include 'one.md' %}", @r#"
    node `chunk-1`: templates include or call each other without an end
      --> one.md:1
    "#);
    for_ann!("{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}{% if persona.facts.age is number %}{{ m(1) }}{% endif %}", @r#"
    `ann/chunk-1`: templates include or call each other without an end
      --> one.md:1
    "#);
    before!("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", @r#"
    node `chunk-1`: templates include or call each other without an end
      --> one.md:1
    "#);
}

#[test]
fn what_exists_only_somewhere_else() {
    before!("{{ loop.index }}", @r#"
    node `chunk-1`: `loop` is not defined
      --> one.md:1
    "#);
    for_ann!("{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", @r#"
    `ann/chunk-1`: value of type undefined is not callable in `caller()`
      --> one.md:1
    "#);
}

/// The same mistake of seven nodes is told once, another one of another node too.
#[test]
fn each_mistake_once() {
    let project = Project::new("vars = { title = \"Two\" }")
        .with("one.md", "{% include 'shared.md' %}")
        .with("two.md", "{% include 'shared.md' %}")
        .with("shared.md", "{{ vars.titel }}\n{{ vars.part }}");
    insta::assert_snapshot!(project.errors(), @r#"
    node `chunk-1`: `vars.titel` is not defined
      --> shared.md:1

    hint: did you mean `vars.title`?

    node `chunk-2`: `vars.part` is not defined
      --> shared.md:2

    hint: `vars` has `title`
    "#);
}

#[test]
fn what_one_persona_lacks() {
    for_ann!("a\n{{ persona.profil }}", @r#"
    `ann/chunk-1`: `persona.profil` is not defined
      --> one.md:2

    hint: did you mean `persona.profile`?
    "#);
    for_ann!("{{ persona.notes }}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{{ persona.facts.nme }}", @r#"
    `ann/chunk-1`: `persona.facts.nme` is not defined
      --> one.md:1

    hint: did you mean `persona.facts.name`?
    "#);
    for_ann!("{{ persona.facts.deep.x.y }}", @r#"
    `ann/chunk-1`: `persona.facts.deep.x` is not defined
      --> one.md:1

    hint: `persona.facts.deep` has `key`
    "#);
    for_ann!("{{ persona.profile.first }}", @r#"
    `ann/chunk-1`: `persona.profile.first` is not defined
      --> one.md:1

    hint: `persona.profile` is a text and has nothing in it
    "#);
    for_ann!("{{ persona.facts.list[7] }}", @r#"
    `ann/chunk-1`: `persona.facts.list[7]` is not defined
      --> one.md:1

    hint: `persona.facts.list` has 2 items, the first is 0
    "#);
    for_ann!("{{ persona.facts['first name'] }}", @r#"
    `ann/chunk-1`: `persona.facts['first name']` is not defined
      --> one.md:1

    hint: `persona.facts` has `name`, `age`, `list`, `deep`
    "#);
    for_ann!("{% set x = persona.notes %}\n\n{{ x }}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{% for x in persona.notes %}{% endfor %}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{% if persona.kind == 'couple' %}{% endif %}", @r#"
    `ann/chunk-1`: `persona.kind` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{% for x in persona.facts.list %}{{ x.name }}{% endfor %}", @r#"
    `ann/chunk-1`: `x.name` is not defined
      --> one.md:1
    "#);
    for_ann!("{{ vars[persona.id] }}", @r#"
    `ann/chunk-1`: `vars[persona.id]` is not defined
      --> one.md:1
    "#);
    for_ann!("{{ persona.facts.name + 1 }}", @r#"
    `ann/chunk-1`: tried to use + operator on unsupported types string and number in `persona.facts.name + 1`
      --> one.md:1
    "#);
    for_ann!("{% if persona.facts.age < 5 %}x{% endif %}", @r#"
    `ann/chunk-1`: the prompt is empty
      --> one.md

    hint: its template prints nothing here: is a file of the persona empty?
    "#);
    for_ann!("{{ 'a' * persona.facts.age * 999999 }}", @r#"
    `ann/chunk-1`: the prompt is longer than 16 MB
      --> one.md

    hint: a loop in it prints too much, or a file of the persona is too long for any model
    "#);
}

/// The engine's own strictness ends inside lists and maps.
#[test]
fn undefined_values_are_not_hidden_in_lists() {
    for_ann!("{{ [persona.notes] }}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{{ [persona.id, persona.notes] | join(', ') }}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{{ {'a': persona.notes} }}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{{ {'a': persona.notes} | tojson }}", @r#"
    `ann/chunk-1`: `persona.notes` is not defined
      --> one.md:1

    hint: `persona` has `id`, `a-b`, `facts`, `profile`
    "#);
    for_ann!("{{ [persona.facts] | map(attribute='nme') | join }}", @r#"
    `ann/chunk-1`: `join` gets a value that is not defined
      --> one.md:1
    "#);
}

#[test]
fn the_summary_is_one_line() {
    let error = Project::one("a\n{{ persona.notes }}").request(0).unwrap_err();
    insta::assert_snapshot!(error.summary(), @"`persona.notes` is not defined (one.md:2)");
    assert_eq!(error.persona.unwrap().as_str(), "ann");
}

/// What hints name is there.
#[test]
fn the_lists_of_filters_and_tests_are_right() {
    let environment = environment::environment();
    let exists = |kind: &str, name: &str| {
        let known = environment.empty_state().perform_test(kind, &[Value::from(name)]);
        assert!(known.unwrap(), "{kind} {name}");
    };
    builtins::FILTERS.iter().for_each(|name| exists("filter", name));
    builtins::TESTS.iter().for_each(|name| exists("test", name));
}

/// Found by a fuzzer: the parser takes it, and the engine panics at it.
#[test]
fn an_import_under_something_that_is_no_name() {
    insta::assert_snapshot!(Project::one("x\n{% import 'two.md' as 'two' %}").errors(), @r#"
    what stands behind `as` is no name
      --> one.md:2

    hint: write `{% import "FILE" as NAME %}`
    "#);
}

/// Where the engine's columns end, a mistake would end a debug build; a text may be as long as it likes.
#[test]
fn a_tag_at_the_far_end_of_a_line() {
    let far = " ".repeat(66_000);
    for template in [
        format!("{{{{ 1 }}}}\n{{{{ {far} ! }}}}"),
        format!("\n{far}{{{{ 1 ! }}}}"),
        format!("\n{{% raw %}}{far}"),
        format!("\n{{# {far}"),
        format!("\n{{{{ \"{far}"),
        // Not the end that they look like.
        format!("\n{{{{ \"}}}}\" {far} ! }}}}"),
        format!("{{% raw %}}{{% endraw %}}\n{{% raw %}}{far}"),
        format!("{{# {{% endraw %}} #}}\n{{% raw %}}{far}"),
        format!("\n{}{{{{ 1 ! }}}}", &far[..65_000 - 1]),
        format!("\n{}{{{{ 1 }}}}", "é".repeat(65_000)),
        format!("\n{{{{ 1 }}}}{far}{{# #}}"),
        format!("{{{{ persona.id }}}}{far}\n{{% if 1 %}}{far}{{# a comment\n#}}"),
    ] {
        let errors = Project::one(&template).errors();
        insta::allow_duplicates! {
            insta::assert_snapshot!(errors, @r#"
            a tag behind more than 65000 characters of one line
              --> one.md:2

            hint: break the line before the tag
            "#);
        }
    }
    for template in [
        format!("{{{{ persona.id }}}}{far}"),
        format!("{{{{ persona.id }}}}{far} what was drawn in raw words"),
        format!("{{% raw %}}{{{{{{% endraw %}}{far}\n{{{{ 1 }}}}{far}\n{{# a #}}"),
        format!("{}{{{{ 1 }}}}", "é".repeat(60_000)),
        // Another mistake, before it.
        format!("{{{{ ! }}}}\n{far}{{{{ 1 ! }}}}"),
    ] {
        let compiled = Project::one(&template).compile();
        let far_end = |error: &PromptError| error.message.contains("a tag behind");
        assert!(
            !compiled.is_err_and(|errors| errors.iter().any(far_end)),
            "{}",
            &template[..20]
        );
    }
}
