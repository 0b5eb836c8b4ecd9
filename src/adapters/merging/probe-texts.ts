// Fixed texts on which merged weights are calibrated and checked: questions with answers of many kinds. Never what a user wrote.
// The check reads others than the calibration, so that a rounding which fits its own texts alone does not pass.

export interface ProbeText {
  readonly question: string;
  readonly answer: string;
}

export const CALIBRATION_TEXTS: readonly ProbeText[] = [
  {
    question: 'Why is the sky blue during the day and red at sunset?',
    answer:
      'Air scatters short waves of light more strongly than long ones. By day, blue light reaches us from all directions. At sunset the light crosses much more air, most of the blue is scattered away, and red and orange remain.',
  },
  {
    question: 'Write a Python function that counts the vowels in a string.',
    answer:
      'def count_vowels(text):\n    """Return how many vowels the text has."""\n    return sum(1 for letter in text.lower() if letter in "aeiou")\n\nprint(count_vowels("Hello, world"))  # 3',
  },
  {
    question: 'A shop sells pens at 3 for $2. How much do 18 pens cost?',
    answer:
      '18 pens are 18 / 3 = 6 packs of three. Each pack costs $2, so they cost 6 * 2 = $12 in all. The answer is 12.',
  },
  {
    question: 'Translate into French: The library opens at nine and closes at six.',
    answer: 'La bibliothèque ouvre à neuf heures et ferme à dix-huit heures.',
  },
  {
    question: 'Summarize in one sentence how a bill becomes a law in a parliament.',
    answer:
      'A bill is introduced, debated and amended in committees, voted on by the chambers, and becomes law once it has been signed and published.',
  },
  {
    question: 'Give me a JSON object for a customer with a name, an age and two orders.',
    answer:
      '{"name": "Maria Lopez", "age": 34, "orders": [{"id": 1001, "total": 25.5}, {"id": 1002, "total": 7.25}]}',
  },
  {
    question: 'My laptop does not turn on. What should I try first?',
    answer:
      'First check the power cable and the outlet. Then hold the power button for thirty seconds, let go, and press it once more. If nothing happens, remove the battery where you can, wait a minute, and try again with the charger alone.',
  },
  {
    question: 'Tell the beginning of a story about a lighthouse keeper.',
    answer:
      'Every evening, before the first ship came into sight, old Tomas climbed the two hundred steps to the lamp. That night the light would not start, and for the first time in forty years he heard somebody knock at the door below.',
  },
];

export const CHECK_TEXTS: readonly ProbeText[] = [
  {
    question: 'How do vaccines protect people from diseases?',
    answer:
      'A vaccine shows the immune system a harmless part of a germ. The body learns to recognize it and keeps memory cells, so that it can answer quickly when the real germ arrives. People who are vaccinated also pass the disease on less often.',
  },
  {
    question: 'Write a JavaScript function that reverses the words of a sentence.',
    answer:
      "function reverseWords(sentence) {\n  return sentence.split(' ').reverse().join(' ');\n}\n\nconsole.log(reverseWords('one two three')); // three two one",
  },
  {
    question: 'Anna has 24 apples. She gives a third to Ben and eats 2. How many are left?',
    answer:
      'Anna gives Ben 24 / 3 = 8 apples. Then she has 24 - 8 = 16 apples. She eats 2 of them, so 16 - 2 = 14 apples are left. The answer is 14.',
  },
  {
    question: 'What is the difference between a virus and a bacterium?',
    answer:
      'Bacteria are living cells that can grow and divide by themselves. Viruses are much smaller, are not cells, and can only multiply inside the cells of a host. Antibiotics work against bacteria but not against viruses.',
  },
  {
    question: 'List three tips for writing a good letter of application.',
    answer:
      '1. Read the advertisement closely and answer what it asks for.\n2. Keep it to one page, with a clear beginning and end.\n3. Give an example of your work instead of a list of adjectives.',
  },
  {
    question: 'Please write an SQL query for the ten customers with the most orders.',
    answer:
      'SELECT customer_id, COUNT(*) AS number_of_orders\nFROM orders\nGROUP BY customer_id\nORDER BY number_of_orders DESC\nLIMIT 10;',
  },
  {
    question: 'Who wrote the play Romeo and Juliet, and what is it about?',
    answer:
      'William Shakespeare wrote it around 1595. It is the story of two young people in Verona who fall in love although their families are enemies, and whose death at last brings the families to peace.',
  },
  {
    question: 'Explain to a child why we have seasons.',
    answer:
      'The Earth travels around the Sun once a year, and it is a little tilted. When our half leans towards the Sun, the days are long and warm: that is summer. When it leans away, the days are short and cold: that is winter.',
  },
];
