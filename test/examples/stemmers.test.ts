// Both stemmers against the examples in Porter's paper and in the published vocabulary of the English stemmer.
import { porterStem } from '../../examples/reformulate/porter.ts';
import { porter2Stem } from '../../examples/reformulate/porter2.ts';
import { describe, expect, test } from 'vitest';

/** `word stem` pairs separated by commas. */
function pairs(text: string): [word: string, stem: string][] {
  return text
    .trim()
    .split(/,\s*/)
    .map((pair) => pair.split(' ') as [string, string]);
}

describe('porterStem()', () => {
  test('returns the stems of the examples in the paper of 1980', () => {
    const known = pairs(`
      caresses caress, ponies poni, ties ti, caress caress, cats cat, feed feed, agreed agre, plastered plaster, bled bled,
      motoring motor, sing sing, conflated conflat, troubled troubl, sized size, hopping hop, tanned tan, falling fall, hissing hiss,
      fizzed fizz, failing fail, filing file, happy happi, sky sky, relational relat, conditional condit, rational ration,
      valenci valenc, digitizer digit, radicalli radic, differentli differ, vileli vile, analogousli analog, vietnamization vietnam,
      predication predic, operator oper, feudalism feudal, decisiveness decis, hopefulness hope, callousness callous,
      formaliti formal, sensitiviti sensit, sensibiliti sensibl, triplicate triplic, formative form, formalize formal,
      electriciti electr, electrical electr, hopeful hope, goodness good, revival reviv, allowance allow, inference infer,
      airliner airlin, gyroscopic gyroscop, adjustable adjust, defensible defens, irritant irrit, replacement replac,
      adjustment adjust, dependent depend, adoption adopt, homologou homolog, communism commun, activate activ,
      angulariti angular, homologous homolog, effective effect, bowdlerize bowdler, probate probat, rate rate, cease ceas,
      controll control, roll roll, generalizations gener, oscillators oscil`);
    expect(known.map(([word]) => [word, porterStem(word)])).toEqual(known);
  });

  test('leaves words of one and two letters, and unknown letters, unchanged', () => {
    for (const word of ['', 'a', 'as', 'is', 'ууу', '東京']) expect(porterStem(word)).toBe(word);
  });
});

describe('porter2Stem()', () => {
  test('returns the stems of the published sample vocabulary', () => {
    const known = pairs(`
      consign consign, consigned consign, consigning consign, consignment consign, consisted consist, consistency consist,
      consistently consist, consolation consol, consolations consol, consolatory consolatori, console consol, consoled consol,
      consolidate consolid, consolingly consol, consonant conson, conspicuous conspicu, conspicuously conspicu,
      conspiracy conspiraci, conspirator conspir, conspirators conspir, conspire conspir, conspired conspir,
      knack knack, knackeries knackeri, knag knag, knaves knave, knavish knavish, kneaded knead, knee knee, kneeled kneel,
      knees knee, knelt knelt, knew knew, knife knife, knightly knight, knits knit, knitted knit, knitting knit, knives knive,
      knocker knocker, knockers knocker, knopp knopp, knots knot`);
    expect(known.map(([word]) => [word, porter2Stem(word)])).toEqual(known);
  });

  test('corrects errors of the stemmer of 1980', () => {
    const known = pairs(`
      skis ski, dying die, news news, inning inning, succeed succeed, generously generous, general general, generate generat,
      communication communic, community communiti, arsenal arsenal, happily happili, say say, cry cri, boys boy, boy's boy,
      dogs' dog, 'tis tis, ties tie, gas gas, this this, gaps gap, kiwis kiwi, luxuriated luxuri, hopped hop, hoping hope,
      exceedingly exceed, hopelessly hopeless, geology geolog, only onli, atlas atlas`);
    expect(known.map(([word]) => [word, porter2Stem(word)])).toEqual(known);
  });
});
