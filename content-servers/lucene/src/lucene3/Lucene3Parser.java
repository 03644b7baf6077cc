// Lucene's classic query parser with expansions that score exactly: each term counts by its own statistics.

package katamari.lucene;

import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.index.Term;
import org.apache.lucene.queryParser.ParseException;
import org.apache.lucene.queryParser.QueryParser;
import org.apache.lucene.queryParser.TokenMgrError;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.FuzzyQuery;
import org.apache.lucene.search.MultiTermQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.util.Version;
import katamari_search.BadQuery;

final class Lucene3Parser extends QueryParser {
  private Lucene3Parser(String field, Analyzer analyzer, boolean isScored) {
    super(Version.LUCENE_36, field, analyzer);
    setMultiTermRewriteMethod(
        isScored ? MultiTermQuery.SCORING_BOOLEAN_QUERY_REWRITE : MultiTermQuery.CONSTANT_SCORE_FILTER_REWRITE);
  }

  /** @param isScored false for a query that only selects documents: its patterns may match any number of terms */
  static Query parse(String query, String field, Analyzer analyzer, boolean isScored) throws BadQuery {
    try {
      return new Lucene3Parser(field, analyzer, isScored).parse(query);
    } catch (ParseException | TokenMgrError error) {
      if (error.getCause() instanceof BooleanQuery.TooManyClauses) throw Queries.tooManyTerms();
      throw Queries.notUnderstood(error, query);
    } catch (BooleanQuery.TooManyClauses error) {
      throw Queries.tooManyTerms();
    } catch (IllegalArgumentException error) {
      throw Queries.bad("the query cannot be used: " + error.getMessage());
    }
  }

  @Override
  protected BooleanQuery newBooleanQuery(boolean isCoordDisabled) {
    return new ExactBooleanQuery(isCoordDisabled);
  }

  @Override
  protected Query newFuzzyQuery(Term term, float similarity, int prefixLength) {
    return new FuzzyQuery(term, similarity, prefixLength, SearchLimits.TERMS_MAX);
  }
}
