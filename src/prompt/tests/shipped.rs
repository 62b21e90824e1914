//! The prompts that ship, rendered for the personas that ship.

use super::*;

const TEMPLATES: [(&str, &str); 4] = [
    ("prompts/system.md", include_str!("../../../prompts/system.md")),
    ("prompts/persona.md", include_str!("../../../prompts/persona.md")),
    ("prompts/chunk.md", include_str!("../../../prompts/chunk.md")),
    ("prompts/combine.md", include_str!("../../../prompts/combine.md")),
];

fn shipped() -> Prompts {
    let config = config::load(include_str!("../../../pipeline.toml"), "pipeline.toml").unwrap();
    let templates = TEMPLATES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Prompts::compile(&config, &templates.into()).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

fn persona(id: &str, files: &[(&str, &str)]) -> Persona {
    let file = |(name, text): &(&str, &str)| PersonaFile {
        name: (*name).to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let files: Vec<PersonaFile> = files.iter().map(file).collect();
    Persona::build(&id.into(), id, &files).unwrap()
}

macro_rules! file {
    ($persona:literal, $name:literal) => {
        (
            $name,
            include_str!(concat!("../../../personas/", $persona, "/", $name)),
        )
    };
}

#[test]
fn a_chunk_reads_well() {
    let mary = persona(
        "young_couple_01_daniel_mary",
        &[
            file!("young_couple_01_daniel_mary", "profile.md"),
            file!("young_couple_01_daniel_mary", "facts.toml"),
            file!("young_couple_01_daniel_mary", "voice.md"),
        ],
    );
    let request = shipped().request(1, &mary, &[]).unwrap();
    assert_eq!(request.messages[0].role, Role::System);
    insta::assert_snapshot!(request.messages[1].content, @r#"
    # The clients

    Daniel and Mary have been together for six years and are getting married in June. They booked the appointment after a Sunday that began with a seating plan and ended with Mary crying over a spreadsheet: the wedding costs as much as the down payment they wanted to have by then, and nobody had ever decided that.

    Daniel grew up with three brothers in a rented duplex. His father drove trucks, was laid off twice, and paid everything in cash from labelled envelopes. Daniel still feels safest with money that he can see; he has let four thousand dollars lie in a checking account for two years because moving it felt like losing it. He became an electrician straight out of school, has never owed anybody anything, and is quietly proud of it. He would like to run his own van one day and has told only Mary.

    Mary was the first in her family to go to college and carries the loans for it. She works nights on a cardiac ward, earns a little more than he does, and is tired in a way that coffee does not reach. Her mother sends links to houses. Mary wants a child before she is thirty-two and has not found the evening to say so. What she fears is not the debt but becoming a couple that talks about nothing else.

    ## Who they are

    - Daniel, 29: electrician at a firm with twelve vans, union member
    - Mary, 28: registered nurse on a cardiac ward, mostly nights

    Home: a two-bedroom rental in Columbus, Ohio.

    ## Their figures

    All in US dollars.

    Income:
    - Daniel, net a month: 3150
    - Mary, net a month: 3480
    - Mary's night differential, most months: 310

    Spending:
    - rent and utilities a month: 1690
    - cars, gas and insurance a month: 840
    - student loan payment a month: 395
    - everything else a month: 2300
    - wedding, agreed so far: 26500

    Owned:
    - joint savings: 31200
    - Daniel's checking account: 4000
    - Daniel's union pension, if he stays to 62, a month: 2100
    - Mary's 403(b): 9800

    Owed:
    - Mary's student loans, 5.1 percent: 34600
    - car loan on her Mazda: 7900

    ## How they talk

    Daniel answers briefly, then corrects himself with a number. Says "fair enough" when he does not agree. Mary talks fast when she is nervous, starts sentences with "no, but", and makes a joke just before anything that hurts. They call each other Danny and Mare.

    # Your task

    The conversation is a first meeting of about two hours, written in seven parts. Write part 2 of 7, "The road here".

    What happens in it: Where they come from: how money was talked about at home, the first wage, one decision they are proud of and one they would take back. The adviser follows up on details instead of collecting facts. If there are two of them, they learn something new about each other.

    Where it begins: The adviser has just asked for the story behind their coming. The earlier parts have happened: nobody introduces themselves, nothing is explained twice.

    Where it ends: A memory that explains how they deal with money today, and a short silence after it. Stop there: no farewell, no outlook, the next part goes on from that moment.

    The other parts are written by others at the same time, from the same persona. So keep to your part: do not tell what belongs into another one, and refer to what was said before only in general words.

    Write 900 to 1200 words. Begin with the first turn.
    "#);
}

#[test]
fn without_a_voice_and_with_children() {
    let margaret = persona(
        "widow_05_margaret",
        &[
            file!("widow_05_margaret", "profile.md"),
            file!("widow_05_margaret", "facts.toml"),
        ],
    );
    let request = shipped().request(6, &margaret, &[]).unwrap();
    let text = &request.messages[1].content;
    let (_, from_people) = text.split_once("## Who they are").unwrap();
    let (people, _) = from_people.split_once("# Your task").unwrap();
    insta::assert_snapshot!(people, @r#"


    - Margaret, 71: retired primary school teacher, widowed since March

    Children:

    - Peter, 44: engineer in Calgary, two children
    - Joan, 41: care assistant, lives twenty minutes away, husband lost his job in spring

    Home: her own house with an orchard, forty minutes from Halifax, Nova Scotia.

    ## Their figures

    All in Canadian dollars.

    Income:
    - teacher's pension a month: 1910
    - Alan's survivor pension a month: 1240
    - CPP and OAS a month: 1580

    Spending:
    - house, heating oil and taxes a month, averaged: 980
    - living a month: 1650
    - the roof, which cannot wait another winter: 18500

    Owned:
    - the house and the orchard: 415000
    - eleven accounts, as far as found: 362000
    - Alan's coin collection: nobody knows

    Owed:
    - nothing: 0
    "#);
    assert!(!text.contains("Stop there"), "{text}");
}

/// Chunks of one persona begin with the same bytes: that is what a provider's cache pays for.
#[test]
fn chunks_share_their_beginning() {
    let prompts = shipped();
    let tomasz = persona(
        "freelancer_04_tomasz",
        &[
            file!("freelancer_04_tomasz", "profile.md"),
            file!("freelancer_04_tomasz", "facts.json"),
            file!("freelancer_04_tomasz", "voice.md"),
        ],
    );
    let texts: Vec<String> = (0..7)
        .map(|node| {
            prompts.request(node, &tomasz, &[]).unwrap().messages[1]
                .content
                .clone()
        })
        .collect();
    let (shared, _) = texts[0].split_once("# Your task").unwrap();
    assert!(shared.len() > 2_000);
    assert!(texts.iter().all(|text| text.starts_with(shared)));
}

#[test]
fn combine_gets_the_parts_in_order() {
    let prompts = shipped();
    let ids: Vec<NodeId> = (1..=7).map(|i| NodeId::from(format!("chunk-{i}"))).collect();
    let texts: Vec<String> = (1..=7).map(|i| format!("**Ruth:** This is part {i}.")).collect();
    let needs: Vec<(&NodeId, &str)> = ids.iter().zip(texts.iter().map(String::as_str)).collect();
    let hannah = persona(
        "early_stop_07_hannah",
        &[
            file!("early_stop_07_hannah", "profile.md"),
            file!("early_stop_07_hannah", "facts.toml"),
        ],
    );
    let text = &prompts.request(7, &hannah, &needs).unwrap().messages[1].content;
    let (_, parts) = text.split_once("no mark of where a part began.\n").unwrap();
    insta::assert_snapshot!(parts, @r#"

    <part number="1">
    **Ruth:** This is part 1.
    </part>

    <part number="2">
    **Ruth:** This is part 2.
    </part>

    <part number="3">
    **Ruth:** This is part 3.
    </part>

    <part number="4">
    **Ruth:** This is part 4.
    </part>

    <part number="5">
    **Ruth:** This is part 5.
    </part>

    <part number="6">
    **Ruth:** This is part 6.
    </part>

    <part number="7">
    **Ruth:** This is part 7.
    </part>

    Now write the whole transcript, from the first turn to the last.
    "#);
}

/// Every persona that ships can be asked everything.
#[test]
fn all_personas() {
    let prompts = shipped();
    let personas = [
        persona(
            "a",
            &[
                file!("single_parent_02_priya", "profile.md"),
                file!("single_parent_02_priya", "facts.yaml"),
                file!("single_parent_02_priya", "voice.md"),
            ],
        ),
        persona(
            "b",
            &[
                file!("retiring_couple_03_walter_ines", "profile.md"),
                file!("retiring_couple_03_walter_ines", "facts.toml"),
            ],
        ),
        persona(
            "c",
            &[
                file!("blended_family_06_andre_sofia", "profile.md"),
                file!("blended_family_06_andre_sofia", "facts.yaml"),
                file!("blended_family_06_andre_sofia", "voice.md"),
            ],
        ),
        persona(
            "d",
            &[
                file!("sandwich_08_grace_chidi", "profile.md"),
                file!("sandwich_08_grace_chidi", "facts.yaml"),
                file!("sandwich_08_grace_chidi", "voice.md"),
            ],
        ),
    ];
    for persona in &personas {
        for node in 0..7 {
            let request = prompts
                .request(node, persona, &[])
                .unwrap_or_else(|error| panic!("{error}"));
            assert!(
                !request.messages[1].content.contains("\n\n\n"),
                "{}",
                request.messages[1].content
            );
        }
    }
}
