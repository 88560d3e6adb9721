// The answer as a list with bars. Labels come from the model's file and are text, never markup.

const HUNDREDTHS = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/**
 * A probability in words: nothing that is not zero is shown as zero.
 *
 * @param {number} probability
 */
export function percent(probability) {
  if (probability > 0 && probability < 0.0005) {
    return "below 0.1%";
  }
  return probability < 1 && probability > 0.9995 ? "above 99.9%" : HUNDREDTHS.format(probability);
}

/**
 * What a class is called.
 *
 * @param {{index: number, label: string|null}} guess
 */
export function nameOf({ index, label }) {
  return label ?? `class ${index}`;
}

/**
 * Show an answer.
 *
 * @param {HTMLElement} list Filled with one entry for each class.
 * @param {{index: number, label: string|null, probability: number}[]} top
 */
export function showResults(list, top) {
  list.replaceChildren(...top.map(entry));
}

/**
 * Show names and values.
 *
 * @param {HTMLElement} list A description list.
 * @param {[string, string][]} facts
 */
export function showFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(element("dt", "", name), element("dd", "", value));
      return pair;
    }),
  );
}

function entry(guess) {
  const item = document.createElement("li");
  const row = element("div", "row", "");
  row.append(element("span", "label", nameOf(guess)), element("span", "probability", percent(guess.probability)));
  const track = element("div", "track", "");
  track.setAttribute("aria-hidden", "true");
  const bar = element("div", "bar", "");
  bar.style.setProperty("--part", String(guess.probability));
  track.append(bar);
  item.append(row, track);
  return item;
}

function element(tag, kind, text) {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}
