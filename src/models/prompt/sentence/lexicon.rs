//! The words that the rules of [`super`] know by heart: what is done and by whom, what is not counted,
//! what comes before and between nouns.
//!
//! The tables were made for the names of AudioSet, ESC-50, UrbanSound8K and VGGSound and for the sounds
//! of a house; a word that is in none of them is a noun that can be counted, or no English. Nothing here
//! bends a word: that is [`super::inflection`].

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::inflection::{gerund, plain_plural, third_person};
use crate::models::audioset;

/// Who does it, and what a noun before it has to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// People do it by themselves: `sneeze`, `baby cry`.
    Voice,
    /// An animal does it, and this one when nothing is said: `bark`, `cat purr`.
    Call(&'static str),
    /// A thing does it, or it happens to it: `water drip`, `glass break`.
    Thing,
    /// People do it to something: `keyboard typing` is no keyboard that types.
    Hand,
    /// As [`Verb::Hand`], while the word by itself is what it is done with: `hammer`.
    Tool,
}

const VOICE: &str = "cough sneeze sniff snore breathe laugh giggle chuckle snicker chortle cry sob wail \
    moan sigh sing yodel chant groan grunt wheeze gasp snort shout bellow whoop yell scream whisper burp \
    hiccup fart gargle cheer clap applaud speak talk babble rap mumble mutter yawn walk run jog march \
    dance stomp beatbox slurp argue swallow swear";

const CALLS: [(&str, &str); 24] = [
    ("bark", "a dog"),
    ("yip", "a dog"),
    ("howl", "a dog"),
    ("growl", "a dog"),
    ("meow", "a cat"),
    ("miaow", "a cat"),
    ("purr", "a cat"),
    ("caterwaul", "a cat"),
    ("neigh", "a horse"),
    ("whinny", "a horse"),
    ("moo", "a cow"),
    ("oink", "a pig"),
    ("bleat", "a sheep"),
    ("baa", "a sheep"),
    ("cluck", "a chicken"),
    ("gobble", "a turkey"),
    ("quack", "a duck"),
    ("squawk", "a bird"),
    ("chirp", "a bird"),
    ("tweet", "a bird"),
    ("coo", "a pigeon"),
    ("caw", "a crow"),
    ("hoot", "an owl"),
    ("croak", "a frog"),
];

const THINGS: &str = "ring beep bleep click tick creak squeak squeal screech rattle crackle rumble rustle \
    drip trickle dribble gush gurgle slosh splash splatter bubble boil sizzle pop crack burst shatter \
    break crash smash slam thump thud bang clang clank clatter clink chink jingle tinkle jangle ping ding \
    whir whirr hum buzz throb vibrate pulsate idle rev accelerate skid start spin flush flap bounce whoosh \
    swoosh swish toot blare explode erupt fall pour spray leak honk hiss roar pant splinter fizz land pass \
    open close shut run stop brew simmer collapse shake gallop trot whimper whine";

const HANDS: &str = "knock clear roll type write chop fry brush scrub wash clean sweep mop mow play drive eat drink \
    sip chew bite cut rip tear dial strike stir scratch scrape rub slap smack whack crumple crush squeeze \
    dig peel slice hit kick throw drag push pull cook bake use build repair pump row forge grind sharpen \
    shave shovel turn flip zip unzip pack unpack vacuum iron fold shuffle tap snap juggle skip load unload \
    walk feed sew knit paint sneeze plane";

/// Those of [`HANDS`] that need not be told what they are done to.
const BUSY: &str = "knock type write chew eat drink cook bake sew knit paint shave juggle shuffle tap scrub \
    clean vacuum drive play row dig iron chop hammer saw drill sand file";

const TOOLS: &str = "hammer saw drill sand file weld drum pump iron vacuum snap row fold use zip \
    turn pack load plane";

/// Nouns that are not counted.
const MASS: &str = "water hop rain rainfall hail snow ice sleet drizzle wind thunder lightning steam fire smoke \
    air glass wood metal plastic paper gravel sand mud grass liquid food meat oil coffee tea milk beer wine \
    popcorn bacon cloth clothing hair fur skin music rock jazz blues reggae funk grunge disco techno \
    electronica dubstep trance gospel opera ska flamenco bluegrass afrobeat salsa country soul \
    percussion speech conversation chatter narration babble hubbub noise static distortion feedback \
    reverberation silence traffic laughter applause gunfire artillery surf cutlery silverware furniture \
    machinery equipment rubbish trash garbage luggage laundry livestock cattle poultry fowl mastication \
    eructation transport pizzicato campanology clip-clop tick-tock bow-wow clickety-clack cock-a-doodle-doo \
    dtmf tennis badminton volleyball football hockey squash golf lacrosse chess \
    bowling home bed night school work turbulence interference cacophony vibration \
    throbbing vroom weather chalk acceleration africa asia america \
    europe bollywood sonar conditioning racing";

/// Nouns of which there is one: `the ocean`.
const UNIQUE: &str =
    "ocean sea countryside distance background sky sun moon street radio television tv";

/// Plurals that do not end in s, and what is always many.
const PLURALS: &str = "people children men women kids mice geese teeth feet wolves cattle police bagpipes \
    scissors fireworks bovinae canidae keys dishes headphones clothes stairs timpani";

/// Single words that end in s all the same.
const SINGULARS: &str = "bus gas lens tennis chess news series glass grass brass bass harmonics blues \
    mathematics walrus octopus virus cactus chorus surplus canvas atlas iris moss cross dress boss mess \
    hiss abs physics";

/// Words in -ing that nobody does.
const NOT_DONE: &str = "building ceiling morning evening wedding something nothing anything everything \
    ring king spring string swing thing wing lightning recording conditioning painting clothing sling \
    bling ping ding zing boing cling sting bring icing plumbing railing siding earring offspring viking \
    pudding filming meeting parking racing";

/// What an -ing form is part of when it comes before these: `washing machine`.
const MADE_FOR: &str = "machine machines board pan desk bowl bowls room fork table line lamp stick ship \
    boat fan stone tool tools pool wheel wheels game card toilet rod cap glasses fountain shoes";

/// Before a noun, and then there is no need of an article.
const DETERMINERS: &str = "a an the my your his her its our their this that these those some any no each \
    every another several many few two three four five six seven eight nine ten";

/// Between nouns.
const PREPOSITIONS: &str = "of on in at by from with without through into onto over under against across \
    along around near behind inside outside beside between during for to down up off out past towards \
    toward upon above below among amid before after beneath";

/// After a verb, with nothing to follow.
const PARTICLES: &str = "by up down away off out over past on along around back together again nearby \
    loudly softly quietly outside inside slowly quickly repeatedly overhead upstairs downstairs twice";

/// What people are called, who do things to other things.
const PEOPLE: &str = "someone somebody person people man men woman women child children kid kids baby \
    babies infant toddler boy boys girl girls male female adult crowd audience neighbour neighbor choir \
    band he she they we i you dog cat bird horse animal";

/// A sentence has one of these, after who it is about.
const AUXILIARIES: &str =
    "is are was were be been am has have had can could will would does did do";

/// Words that say what something is like, beside those that end as such words do.
const ADJECTIVES: &str = "loud quiet soft heavy light distant faint deep low high sharp sudden old young \
    small big large little short long fast slow rapid strong gentle constant noisy squeaky rusty wet dry \
    broken muffled shrill harsh hoarse belly angry happy sad scary windy rainy stormy busy \
    crowded continuous intermittent repeated wooden steady bright dull hollow crisp \
    cold hot warm calm wild single double annoying synthetic";

/// Everyday words that no label of AudioSet has.
const EVERYDAY: &str = "kettle amplifier tube vintage coffee maker cup mug plate spoon knife fork pan pot \
    fridge refrigerator freezer washer dryer dishwasher oven stove toaster grinder mixer lamp switch light \
    bulb candle lighter match window curtain blind lock key handle hinge gate fence garage garden yard \
    lawn roof floor carpet stair staircase step footstep elevator lift escalator ladder hallway corridor \
    room kitchen bathroom bedroom office basement attic balcony street road highway pavement sidewalk \
    bridge tunnel station airport harbour harbor playground park forest river lake beach farm barn stable \
    factory workshop shop store market restaurant bar pub school hospital church house home apartment \
    neighbour neighbor someone somebody person people man woman boy girl kid child baby infant toddler \
    crowd adult voice noise sound tone melody song tune note chord beat rhythm drummer singer guitarist \
    hamster rabbit parrot budgie canary sparrow swallow seagull gull raven woodpecker cuckoo nightingale \
    peacock pheasant swan hen rooster calf lamb donkey mule camel elephant lion tiger bear wolf fox deer \
    monkey gorilla chimpanzee dolphin seal otter squirrel rat mosquito wasp hornet grasshopper cicada \
    beetle butterfly toad lizard puppy kitten drone tractor scooter moped van lorry tram trolley taxi cab \
    airplane aeroplane plane jet rocket missile tank crane bulldozer excavator generator compressor pump \
    motor turbine fan heater boiler radiator furnace thermostat pipe faucet shower bath tap drain gutter \
    bucket bottle jar can box bag packet envelope parcel book page newspaper pen pencil marker chalk ruler \
    stapler tape rope chain wire cable plug socket battery charger phone smartphone mobile cell laptop \
    mouse screen monitor speaker headphone microphone intercom pager letterbox mailbox mail post clock \
    watch timer stopwatch metronome pendulum bell gong chime rattle toy doll ball balloon kite swing slide \
    dice coin wallet purse zip button belt shoe boot slipper heel glove hat coat jacket bed pillow blanket \
    mattress sofa couch chair table desk shelf drawer cupboard cabinet wardrobe door doorknob mirror \
    picture frame vase flower plant tree branch leaf bush grass seed stone rock pebble brick tile concrete \
    steel iron copper tin can aluminium foil plastic rubber leather cotton wool silk nail screw bolt nut \
    spanner wrench pliers axe shovel rake broom mop brush sponge towel soap shampoo toothpaste razor comb \
    pill syringe ventilator monitor wheelchair stroller pram crib bicycle bike tricycle pedal brake tyre \
    wheel horn exhaust bumper windshield wiper seatbelt ignition sewing washing slot vending arcade pinball \
    game console joystick piano violin bongo conga djembe castanets kazoo recorder oboe bassoon tuba bugle \
    cornet erhu lute lyre viola keyboard amplifier synth turntable record vinyl cassette jukebox firework \
    cannon pistol rifle shotgun bullet grenade bomb volcano earthquake avalanche landslide storm tornado \
    hurricane blizzard puddle droplet icicle wave tide current creek brook geyser bonfire campfire fireplace \
    detector monoxide leak fault failure accident collision impact footfall heartbeat stomach nose throat \
    lip tooth teeth finger hand foot head chest lung shot sewage popcorn bacon onion carrot apple chip crisp \
    noodle soup soda beer champagne cork lid straw whisk blackboard whiteboard typewriter cannonball";

/// Nouns of two words whose second looks like what the first does.
const COMPOUNDS: [&str; 11] = [
    "battle cry",
    "mains hum",
    "bus stop",
    "home run",
    "coffee break",
    "drum roll",
    "tap dance",
    "hand shake",
    "milk shake",
    "war cry",
    "speech babble",
];

/// What stands for someone or something, and has no article.
const PRONOUNS: &str = "someone somebody something anyone anything everyone everything nobody he she it they \
    we you i others who";

/// English without doubt.
const ENGLISH: &str = "someone somebody of the a an my and with from";

/// Small words of other languages, so that their phrases are not bent by English rules.
const FOREIGN: &str = "der die das den dem des ein eine einen einer und im vom zum mit auf bei le la les un \
    une du et avec el los las una unos y con del il lo gli dei della di uno na het een op det ett en \
    och og ja jest w z que qui au aux por para sur dans o os um uma e da das dos";

/// Words that have a capital wherever they stand, as they do here.
const NAMES: &str = "Hammond French Middle Eastern Latin America Africa Asia Christian Christmas Bollywood \
    Carnatic Morse English German Spanish Italian Chinese Japanese Indian American European British \
    Doppler Tibetan DTMF TV I";

fn words(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.split_whitespace()
}

fn set(table: &'static str) -> HashSet<&'static str> {
    words(table).collect()
}

static VERBS: LazyLock<HashMap<&'static str, Verb>> = LazyLock::new(|| {
    let mut verbs = HashMap::new();
    verbs.extend(words(HANDS).map(|word| (word, Verb::Hand)));
    verbs.extend(words(TOOLS).map(|word| (word, Verb::Tool)));
    verbs.extend(words(THINGS).map(|word| (word, Verb::Thing)));
    verbs.extend(CALLS.map(|(word, who)| (word, Verb::Call(who))));
    verbs.extend(words(VOICE).map(|word| (word, Verb::Voice)));
    verbs
});

/// From the forms `barking` and `barks` to `bark`.
static GERUNDS: LazyLock<HashMap<String, &'static str>> =
    LazyLock::new(|| VERBS.keys().map(|word| (gerund(word), *word)).collect());
static FINITES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    VERBS
        .keys()
        .map(|word| (third_person(word), *word))
        .collect()
});

/// Every word that is known to be English.
static VOCABULARY: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let labels = audioset::audioset_labels().iter();
    let mut vocabulary: HashSet<String> = labels
        .flat_map(|label| label.name.split(|c: char| !c.is_alphanumeric() && c != '-'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    for table in [
        MASS, UNIQUE, PLURALS, SINGULARS, NOT_DONE, MADE_FOR, PEOPLE, EVERYDAY,
    ] {
        vocabulary.extend(words(table).map(str::to_owned));
    }
    vocabulary.extend(VERBS.keys().map(|word| (*word).to_owned()));
    let many: Vec<String> = vocabulary.iter().map(|word| plain_plural(word)).collect();
    vocabulary.extend(many);
    vocabulary
});

macro_rules! is_in {
    ($($(#[$doc:meta])* $name:ident: $table:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(word: &str) -> bool {
            static WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| set($table));
            WORDS.contains(word)
        }
    )*};
}

is_in! {
    /// Whether it is not counted: `rain`.
    is_mass: MASS;
    /// Whether there is one alone: `ocean`.
    is_unique: UNIQUE;
    /// Whether it is many without an s: `people`.
    is_irregular_plural: PLURALS;
    /// Whether it is one in spite of its s: `bus`.
    is_singular_in_s: SINGULARS;
    /// Whether things are named after what they are for by it: `machine`.
    is_made_for: MADE_FOR;
    /// Whether it is an article or stands in its place: `the`, `my`, `two`.
    is_determiner: DETERMINERS;
    /// Whether it stands between nouns: `of`.
    is_preposition: PREPOSITIONS;
    /// Whether it ends what is done: `passing by`.
    is_particle: PARTICLES;
    /// Whether it is someone who can do things to other things.
    is_person: PEOPLE;
    /// Whether it makes a sentence: `is`.
    is_auxiliary: AUXILIARIES;
    /// Whether people can be said to do it and no more: `someone is typing`.
    is_busy: BUSY;
    /// Whether it stands for someone or something: `someone`.
    is_pronoun: PRONOUNS;
    /// Whether only English has it.
    is_english: ENGLISH;
    /// Whether another language has it, and English has not.
    is_foreign: FOREIGN;
    /// Whether it has its capital everywhere; takes it as it was written.
    is_name: NAMES;
}

/// Whether it says what something is like.
pub fn is_adjective(word: &str) -> bool {
    static WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| set(ADJECTIVES));
    const ENDINGS: [&str; 8] = ["tic", "ous", "ful", "less", "ish", "ive", "ly", "ical"];
    let is_noun = VOCABULARY.contains(word);
    WORDS.contains(word) || (!is_noun && ENDINGS.iter().any(|ending| word.ends_with(ending)))
}

/// Whether two words in small letters are one noun, though the second is a verb too.
pub fn is_compound(first: &str, second: &str) -> bool {
    let is = |compound: &&str| compound.split_once(' ') == Some((first, second));
    COMPOUNDS.iter().any(|compound| is(&compound))
}

/// What the base form of a verb is: `bark`.
pub fn verb(word: &str) -> Option<Verb> {
    VERBS.get(word).copied()
}

/// What the verb of an -ing form is; one that no table has is taken for what things do.
pub fn verb_of_gerund(word: &str) -> Option<Verb> {
    static NOT: LazyLock<HashSet<&'static str>> = LazyLock::new(|| set(NOT_DONE));
    if NOT.contains(word) {
        return None;
    }
    if let Some(base) = GERUNDS.get(word) {
        return verb(base);
    }
    let stem = word.strip_suffix("ing")?;
    let has_vowel = stem.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    (stem.len() >= 3 && has_vowel && stem.is_ascii()).then_some(Verb::Thing)
}

/// The base form of `typing` where a table has it.
pub fn base_of_gerund(word: &str) -> Option<&'static str> {
    GERUNDS.get(word).copied()
}

/// The base form of `barks`.
pub fn base_of_finite(word: &str) -> Option<&'static str> {
    FINITES.get(word).copied()
}

/// Whether it is known to be English.
pub fn is_known(word: &str) -> bool {
    VOCABULARY.contains(word) || GERUNDS.contains_key(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_their_forms() {
        assert_eq!(verb("bark"), Some(Verb::Call("a dog")));
        assert_eq!(verb_of_gerund("crying"), Some(Verb::Voice));
        assert_eq!(verb_of_gerund("shaving"), Some(Verb::Hand));
        assert_eq!(verb_of_gerund("zorping"), Some(Verb::Thing));
        for noun in ["building", "string", "ring", "ceiling", "sing", "x"] {
            assert_eq!(verb_of_gerund(noun), None, "{noun}");
        }
        assert_eq!(base_of_finite("cries"), Some("cry"));
        assert!(is_known("amplifier") && is_known("kettles") && !is_known("hund"));
    }
}
