//! Any text as a template: it ends, within its limits, in a prompt or in an error that has a place.

use super::*;
use crate::fuzzed;

const EXAMPLES: [&str; 8] = [
    "{% for k, v in persona.facts.deep | items %}{{ k }}={{ v }}{% endfor %}",
    "{% macro m(x, y=1) %}{{ x ~ y }}{{ caller() }}{% endmacro %}{% call m(2) %}in{% endcall %}",
    "{% include 'two.md' %}{% import 'two.md' as two %}{% from 'two.md' import a as b %}{{ two }}",
    "{% if persona.a is defined and vars.part > 0 %}{{ vars.title | upper | replace('A', 'b') }}{% elif not x %}-{% endif %}",
    "{% set ns = namespace(n=0) %}{% for i in range(10) %}{% set ns.n = ns.n + i %}{% else %}{% endfor %}{{ ns.n }}",
    "{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is sequence else x }}{% endfor %}{{ loop.index }}",
    "{{ needs | map(attribute='text') | join('+') }}{{ needs['chunk-2'].text[1:2] }}{# c #}{% raw %}{{{% endraw %}",
    "{% set x = 'aaaa' * 4 %}{% set x = x ~ x %}{{ x | batch(3) | list | tojson(indent=2) }}{{ '%s' | format(1) }}",
];

#[test]
fn templates_fuzz() {
    bolero::check!(name = "templates_fuzz").for_each(|bytes: &[u8]| {
        let text = fuzzed::text(bytes, &EXAMPLES);
        let project = Project::one(&text).with("two.md", "{% set a = 1 %}{{ persona.id }}");
        let prompts = match project.compile() {
            Ok(prompts) => prompts,
            Err(errors) => {
                assert!(!errors.is_empty());
                for error in errors {
                    assert_eq!(error.scope, PromptScope::Template);
                    assert!(
                        !error.message.is_empty() && !error.message.contains('\n'),
                        "{error}"
                    );
                }
                return;
            }
        };
        match prompts.request(0, &ann(), &[]) {
            Ok(request) => {
                let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
                assert!((1..=LARGEST_PART).contains(&bytes));
            }
            Err(error) => assert!(
                !error.message.is_empty() && !error.message.contains('\n'),
                "{error}"
            ),
        }
    });
}
