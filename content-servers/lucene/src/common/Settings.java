// What a deployment can set in the environment of a Lucene server.

package katamari.lucene;

import java.util.List;
import java.util.Set;

/**
 * Settings.
 *
 * @param field the field of words without one; "" for `content`, or `text` in an index without `content`
 * @param analyzer name of the class of the analyzer; "" for the standard one without stop words
 */
record Settings(String field, String analyzer) {
  private static final List<String> USUAL_FIELDS = List.of("content", "text");

  static Settings ofEnvironment() {
    return new Settings(variable("KATAMARI_LUCENE_FIELD"), variable("KATAMARI_LUCENE_ANALYZER"));
  }

  private static String variable(String name) {
    return System.getenv().getOrDefault(name, "");
  }

  /** @param indexed the fields of an index */
  String defaultField(Set<String> indexed) {
    if (!field.isEmpty()) return field;
    return USUAL_FIELDS.stream().filter(indexed::contains).findFirst().orElse(USUAL_FIELDS.get(1));
  }
}
