// Refusals of queries, and checks before a query goes to Lucene's parser.

package katamari.lucene;

import java.util.regex.Matcher;
import java.util.regex.Pattern;
import katamari_search.BadQuery;

final class Queries {
  private static final Pattern COLUMN = Pattern.compile("at line (\\d+), column (\\d+)");

  private Queries() {}

  static BadQuery bad(String why) {
    return new BadQuery(why, -1);
  }

  /** @throws BadQuery for a query that is too long or too deep for a parser that recurses */
  static void check(String query) throws BadQuery {
    if (query.length() > SearchLimits.QUERY_LENGTH_MAX)
      throw bad("the query has " + query.length() + " characters, the limit is " + SearchLimits.QUERY_LENGTH_MAX);
    int depth = 0;
    for (int at = 0; at < query.length(); at++) {
      if (query.charAt(at) == '\\') at++;
      else if (query.charAt(at) == '(' && ++depth > SearchLimits.QUERY_DEPTH_MAX)
        throw new BadQuery("parentheses are nested deeper than " + SearchLimits.QUERY_DEPTH_MAX + ", the limit", at);
      else if (query.charAt(at) == ')') depth--;
    }
  }

  static BadQuery tooManyTerms() {
    return bad(
        "the query has " + SearchLimits.TERMS_MAX
            + " terms or more, the limit, with what its prefixes and patterns match; make them longer");
  }

  /** Returns the refusal for what a parser of Lucene says. Its columns count from 0. */
  static BadQuery notUnderstood(Throwable error, String query) {
    String why = String.valueOf(error.getMessage());
    // Lucene repeats the query before the reason.
    String repeated = "Cannot parse '" + query + "': ";
    if (why.startsWith(repeated)) why = why.substring(repeated.length());
    Matcher place = COLUMN.matcher(why);
    int at = place.find() && place.group(1).equals("1") ? Integer.parseInt(place.group(2)) : -1;
    String cut = why.strip().split("\\R", 2)[0];
    return new BadQuery(cut.isEmpty() ? "the query cannot be parsed" : cut, Math.min(at, query.length()));
  }
}
