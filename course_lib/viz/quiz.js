// Practice questions (course_lib/viz/quiz.py). Text from Python only ever becomes text nodes.

function node(name, properties = {}, children = []) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

const MARKUP = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*/g;

/** Return DOM nodes for text with `code`, **strong** and *emphasis*. */
export function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(MARKUP)) {
    nodes.push(text.slice(end, match.index));
    const [, code, strong, emphasis] = match;
    const name = code ? "code" : strong ? "strong" : "em";
    nodes.push(node(name, { textContent: code ?? strong ?? emphasis }));
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

const MARKS = { right: "M4,11 L9,16 L17,5", wrong: "M5,5 L16,16 M16,5 L5,16" };

function mark(kind) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const path = document.createElementNS(namespace, "path");
  svg.setAttribute("viewBox", "0 0 21 21");
  svg.setAttribute("class", "quiz-mark");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", MARKS[kind]);
  svg.append(path);
  return svg;
}

function questionCard(question, number, total, onFirstAnswer) {
  const feedback = node("div", { className: "quiz-feedback", hidden: true });
  feedback.setAttribute("role", "status");
  let answered = false;

  const buttons = question.choices.map((choice, position) => {
    const letter = String.fromCharCode(65 + position);
    const button = node("button", { type: "button", className: "quiz-choice" }, [
      node("span", { className: "quiz-letter", textContent: letter }),
      node("span", { className: "quiz-text" }, inline(choice.text)),
    ]);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => choose(choice, button));
    return button;
  });

  function choose(choice, button) {
    for (const other of buttons) {
      other.setAttribute("aria-pressed", String(other === button));
      other.classList.remove("quiz-right", "quiz-wrong");
      other.querySelector(".quiz-mark")?.remove();
    }
    const kind = choice.correct ? "right" : "wrong";
    button.classList.add(`quiz-${kind}`);
    button.append(mark(kind));
    const verdict = choice.correct ? "Right. " : "Not this one. ";
    feedback.className = `quiz-feedback quiz-${kind}`;
    feedback.hidden = false;
    feedback.replaceChildren(
      node("strong", { textContent: verdict }),
      ...inline(choice.feedback),
    );
    if (!answered) onFirstAnswer(Boolean(choice.correct));
    answered = true;
  }

  const card = node("fieldset", { className: "quiz-question" }, [
    node("legend", { textContent: `Question ${number} of ${total}` }),
    node("p", { className: "quiz-prompt" }, inline(question.prompt)),
    node("div", { className: "quiz-choices" }, buttons),
    feedback,
  ]);
  card.dataset.question = question.id;
  return card;
}

function render({ model, el }) {
  const cards = node("div");
  const score = node("output", { className: "quiz-score" });
  const restart = node("button", {
    type: "button",
    className: "quiz-restart",
    textContent: "Start again",
    onclick: start,
  });
  const root = node("div", { className: "quiz" }, [
    cards,
    node("div", { className: "quiz-bar" }, [score, restart]),
  ]);
  root.dataset.lmSuppressShortcuts = "true"; // Enter and Space answer; JupyterLab must not see them
  el.append(root);

  function start() {
    const questions = model.get("questions");
    let [answered, right] = [0, 0];
    const showScore = () => {
      score.textContent =
        `${right} of ${answered} right at the first try` +
        (answered < questions.length ? ` (${questions.length - answered} to go)` : "");
    };
    const count = (isRight) => {
      answered += 1;
      right += isRight;
      showScore();
    };
    cards.replaceChildren(
      ...questions.map((question, i) => questionCard(question, i + 1, questions.length, count)),
    );
    showScore();
  }

  model.on("change:questions", start);
  start();
  return () => model.off("change:questions", start);
}

export default { render };
