// The box in the head of the list selects all lines of the page.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-select-all]")) return;
  for (const box of event.target.form.querySelectorAll("input[name=key]")) box.checked = event.target.checked;
});
